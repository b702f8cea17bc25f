"""A door that computes its answers from the requests, served over HTTP by a process of its own: run as a program."""

import asyncio
import contextlib
import json
import ssl
import sys
import time
from dataclasses import dataclass, field

import grpc
import numpy as np
from prometheus_client import CollectorRegistry, Counter
from tritonclient.grpc import model_config_pb2, service_pb2

from ensemble.front_door.http_bodies import BodyLimits
from ensemble.front_door.http_server import serve_http
from ensemble.front_door.http_service import HttpSettings, application, metrics_application
from ensemble.front_door.json_tensors import framed
from ensemble.front_door.refusal import Refusal

TICK = 0.002  # seconds


@dataclass
class EchoDoor:
    """Model `echo` answers each input with the same values; `wait` never; `watch` says what was seen so far.

    A model of the name of a gRPC code is refused with it, `fails` raises another error, any other one is not found.
    """

    refusals: list[str] = field(default_factory=list)
    cancelled: int = 0
    waiting: int = 0
    seconds: float = 0.0
    asker: str = ""
    longest_stop: float = 0.0

    async def infer(self, request, seconds, asker, *, protocol):
        name = request.model_name
        if name == "watch":
            return self._watched()
        self.seconds, self.asker = seconds, asker
        if name == "wait":
            await self._wait()
        if name == "fails":
            raise RuntimeError("as asked")
        if name in grpc.StatusCode.__members__:
            raise Refusal(grpc.StatusCode[name], f"refused with {name}", "busy")
        self._known(name)
        answer = service_pb2.ModelInferResponse(model_name=name, model_version="7", id=request.id)
        for tensor, raw in zip(request.inputs, request.raw_input_contents):
            answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            answer.raw_output_contents.append(raw)
        for key, value in request.parameters.items():
            answer.parameters[key].CopyFrom(value)
        return answer

    async def live(self):
        return True

    async def ready(self):
        return True

    async def model_ready(self, name, version):
        self._known(name)
        return version != "2"

    async def server_metadata(self):
        return service_pb2.ServerMetadataResponse(name="door", version="1.0", extensions=["binary_tensor_data"])

    async def model_metadata(self, name, version):
        self._known(name)
        tensor = service_pb2.ModelMetadataResponse.TensorMetadata(name="x", datatype="INT64", shape=[-1, 2**40])
        return service_pb2.ModelMetadataResponse(name=name, versions=[version or "7"], platform="p", inputs=[tensor])

    async def model_config(self, name, version):
        self._known(name)
        config = model_config_pb2.ModelConfig(name=name, max_batch_size=8)
        config.input.add(name="x", data_type=model_config_pb2.TYPE_INT64, dims=[-1])
        config.parameters["marquee.rows"].string_value = "x"
        return service_pb2.ModelConfigResponse(config=config)

    async def statistics(self, name, version):
        statistics = service_pb2.ModelStatisticsResponse()
        statistics.model_stats.add(name=name or "all", version=version, inference_count=2**60)
        return statistics

    async def watch_the_loop(self):
        while True:
            start = time.thread_time()  # the processor's, whatever else this machine does
            await asyncio.sleep(TICK)
            self.longest_stop = max(self.longest_stop, time.thread_time() - start)

    async def _wait(self):
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1

    def _watched(self):
        seen = {
            "cancelled": self.cancelled,
            "waiting": self.waiting,
            "seconds": self.seconds,
            "asker": self.asker,
            "longest_stop": self.longest_stop,
            "refusals": self.refusals,
        }
        self.longest_stop = 0.0
        answer = service_pb2.ModelInferResponse(model_name="watch")
        answer.outputs.add(name="seen", datatype="BYTES", shape=[1])
        answer.raw_output_contents.append(framed([json.dumps(seen).encode()]))
        return answer

    def _known(self, name):
        if name not in {"echo", "wait"}:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"there is no model {name!r}", "name")


async def main(asked):
    door = EchoDoor()
    registry = CollectorRegistry()
    Counter("marquee_questions", "Of this test.", registry=registry).inc(3)

    def refused(model, reason, asker):
        door.refusals.append(f"{model} {reason} {asker}")

    context = None
    if asked["certificate"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*asked["certificate"])
    settings = HttpSettings(secret=asked["secret"], body=BodyLimits(**asked["body"]))
    host = asked["host"]
    _, port = await serve_http(application(door, settings, refused), host, 0, context, reuse_port=True)
    metrics = metrics_application(asked["secret"], None, registry, refused)
    _, metrics_port = await serve_http(metrics, host, 0, context)
    print(json.dumps([port, metrics_port]), flush=True)
    watching = asyncio.create_task(door.watch_the_loop())
    await asyncio.to_thread(sys.stdin.read)
    watching.cancel()


if __name__ == "__main__":
    np.seterr(all="ignore")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(json.loads(sys.argv[1])))

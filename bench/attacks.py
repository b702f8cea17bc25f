"""Clients that a server must survive, over gRPC: hostile ones, and ordinary ones that cancel or have short deadlines.

An attack asks a server on this machine again and again, for a given number of seconds. It says how often each outcome
came: a gRPC status. Each call has a deadline and each loop an end, so that no attack outlives a server that hangs.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import inputs  # noqa: F401 - puts the repository on the path
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ensemble.headers import GRPC_PREFIX, SECRET_HEADER
from ensemble.triton_models.limits import LARGEST_BATCH

STORM_CLIENTS = 8
PATIENT_SECONDS = 10.0  # for an answer to a hostile request
LONGEST_WAIT = 0.008  # seconds after which a client of the cancel storm has lost its patience
LARGE_CLIENTS = 12
LARGE_SECONDS = 120.0
BACK_OFF = 0.5  # seconds, after an answer that says that the server is busy
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
INT64 = 8  # bytes
PERIOD = 1000  # pairs


@dataclass(frozen=True)
class Target:
    """Where a server listens on this machine, and what an attacker knows.

    Attributes:
        grpc, http: `host:port`; `http` is empty where the server has none.
        secret: empty where the attacker has none.
    """

    grpc: str
    http: str = ""
    secret: str = ""

    @property
    def metadata(self) -> list[tuple[str, str]]:
        return [(GRPC_PREFIX + SECRET_HEADER, self.secret)] if self.secret else []


Attack = Callable[[Target, float, int], Counter[str]]  # target, seconds, seed
Tensor = tuple[str, str, list[int], bytes | None]  # name, datatype, shape, and its bytes


def request(model: str, tensors: Iterable[Tensor]) -> service_pb2.ModelInferRequest:
    """A request as it is sent, whatever it says."""
    made = service_pb2.ModelInferRequest(model_name=model)
    for name, datatype, shape, raw in tensors:
        made.inputs.add(name=name, datatype=datatype, shape=shape)
        if raw is not None:
            made.raw_input_contents.append(raw)
    return made


def ones(name: str, count: int, shape: list[int] | None = None, datatype: str = "INT64") -> Tensor:
    """A tensor of ones."""
    return name, datatype, [count] if shape is None else shape, np.ones(count, np.int64).tobytes()


def text(name: str, raw: bytes, shape: tuple[int, ...] = (1,)) -> Tensor:
    return name, "BYTES", list(shape), raw


def pairs(count: int) -> list[Tensor]:
    """The inputs of `score` for so many pairs."""
    return [ones("user_id", count), ones("movie_id", count)]


# -- ordinary clients --------------------------------------------------------------------------------------------------


def ordinary() -> list[service_pb2.ModelInferRequest]:
    """A good request for each model."""
    return [
        request("score", pairs(3)),
        request("score", [*pairs(2), text("model", b"\3\0\0\0ncf")]),
        request("recommend", [ones("user_id", 1)]),
        request("similar", [ones("movie_id", 1)]),
    ]


def cancel_storm(target: Target, seconds: float, seed: int) -> Counter[str]:
    """Eight asyncio clients that ask every model, and cancel, or have a deadline of 0 to 8 ms."""
    return asyncio.run(_cancel_storm(target, seconds, seed))


async def _cancel_storm(target: Target, seconds: float, seed: int) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    until = time.monotonic() + seconds
    tasks = [_impatient(target, until, random.Random(seed * STORM_CLIENTS + i), outcomes) for i in range(STORM_CLIENTS)]
    await asyncio.gather(*tasks)
    return outcomes


async def _impatient(target: Target, until: float, rng: random.Random, outcomes: Counter[str]) -> None:
    questions = ordinary()
    async with grpc.aio.insecure_channel(target.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        while time.monotonic() < until:
            wait, has_deadline = rng.uniform(0, LONGEST_WAIT), rng.random() < 0.5
            call = stub.ModelInfer(
                rng.choice(questions), timeout=wait if has_deadline else PATIENT_SECONDS, metadata=target.metadata
            )
            try:
                if not has_deadline:
                    await asyncio.sleep(wait)
                    call.cancel()
                await call
                outcomes["OK"] += 1
            except asyncio.CancelledError:
                outcomes["CANCELLED"] += 1
            except grpc.aio.AioRpcError as error:
                outcomes[error.code().name] += 1
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    await asyncio.sleep(0.05)


def largest_batches(target: Target, seconds: float, seed: int) -> Counter[str]:
    """Twelve clients that each ask `score` for as many pairs as it takes; whoever is told to come back waits a little.

    A request that was sent before the time is over is waited for. The pairs repeat, so that each part of an answer must
    be that of another: the outcome is `wrong` where it is not.
    """
    asked = _repeating(LARGEST_BATCH)
    until = time.monotonic() + seconds

    def ask(_: int) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        with grpc.insecure_channel(target.grpc, options=UNLIMITED) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while time.monotonic() < until:
                try:
                    answer = stub.ModelInfer(asked, timeout=LARGE_SECONDS, metadata=target.metadata)
                    outcomes["OK" if _repeats(answer, LARGEST_BATCH) else "wrong"] += 1
                except grpc.RpcError as error:
                    outcomes[error.code().name] += 1
                    time.sleep(BACK_OFF)
        return outcomes

    with ThreadPoolExecutor(LARGE_CLIENTS) as pool:
        return sum(pool.map(ask, range(LARGE_CLIENTS)), Counter())


def _repeating(count: int) -> service_pb2.ModelInferRequest:
    """`score` for so many pairs, the same ones again after `PERIOD`."""
    number = np.arange(count, dtype=np.int64) % PERIOD
    return request(
        "score",
        [
            ("user_id", "INT64", [count], (1 + number % 900).tobytes()),
            ("movie_id", "INT64", [count], (1 + number).tobytes()),
        ],
    )


def _repeats(answer: service_pb2.ModelInferResponse, count: int) -> bool:
    """Whether the scores repeat as the pairs do."""
    place = [output.name for output in answer.outputs].index("score")
    scores = np.frombuffer(answer.raw_output_contents[place], np.float32)
    whole = scores[: count // PERIOD * PERIOD].reshape(-1, PERIOD)
    return len(scores) == count and bool(np.abs(whole - whole[0]).max() <= 1e-5) and bool(np.ptp(whole[0]) > 0)


# -- hostile requests --------------------------------------------------------------------------------------------------


def overflowing() -> list[service_pb2.ModelInferRequest]:
    """Shapes whose number of bytes overflows 64 bits, is negative, or is far larger than what is sent."""
    shapes = [
        [2**61],
        [2**62, 2],
        [2**32, 2**32],
        [2**63 - 1],
        [-1],
        [-(2**63)],
        [0],
        [2**31],
        [2**60 + 1],
        [],
        [1] * 64,
    ]
    made = []
    for shape in shapes:
        for raw in (b"", np.ones(1, np.int64).tobytes()):
            made += [
                request("score", [("user_id", "INT64", shape, raw), ("movie_id", "INT64", shape, raw)]),
                request("recommend", [("user_id", "INT64", shape, raw)]),
                request("recommend", [ones("user_id", 1), ("history", "INT64", shape, raw)]),
                request("similar", [("movie_id", "INT64", shape, raw)]),
            ]
        made.append(request("score", [*pairs(1), text("model", b"", tuple(shape))]))
    return made


def bad_strings() -> list[service_pb2.ModelInferRequest]:
    """STRING tensors whose lengths do not fit their bytes."""
    wrong = [
        b"",
        b"\3",
        b"\3\0\0\0",
        b"\3\0\0\0nc",
        b"\3\0\0\0ncfx",
        b"\xff\xff\xff\xffncf",
        b"\xff\xff\xff\x7fncf",
        b"\3\0\0\0ncf" * 2,
        b"\3\0\0\0\xff\xfe\xfd",
        b"\0\0\0\0" * 100_000,
        (1_000_000).to_bytes(4, "little") + b"x" * 1_000_000,
    ]
    made = [request("score", [*pairs(1), text("model", raw)]) for raw in wrong]
    made += [request("recommend", [ones("user_id", 1), text("strategy", raw)]) for raw in wrong]
    return [*made, request("score", [*pairs(1), text("model", b"\3\0\0\0ncf", (2**61,))])]


def confused() -> list[service_pb2.ModelInferRequest]:
    """Wrong names, types and numbers of tensors and of their bytes; values outside what the models take."""
    missing = request("score", pairs(1))
    del missing.raw_input_contents[1:]
    none = request("score", pairs(1))
    del none.raw_input_contents[:]
    many = request("score", pairs(1))
    many.raw_input_contents.extend([b"12345678"] * 50)
    both = request("score", pairs(1))
    both.inputs[0].contents.int64_contents.append(1)
    typed = request("score", [("user_id", "INT64", [2], None), ("movie_id", "INT64", [2], None)])
    typed.inputs[0].contents.int64_contents.extend([1, 2])
    typed.inputs[1].contents.fp32_contents.extend([1.0])
    unasked = request("score", pairs(1))
    unasked.outputs.add(name="stars")
    memory = request("score", pairs(1))
    memory.inputs[0].parameters["shared_memory_region"].string_param = "region"
    memory.inputs[0].parameters["shared_memory_byte_size"].int64_param = 2**62
    sequence = request("score", pairs(1))
    sequence.parameters["sequence_id"].int64_param = 1
    sequence.parameters["priority"].int64_param = -1
    sequence.parameters["timeout"].int64_param = 1
    named = request("score", pairs(1))
    named.id = "x" * 1_000_000
    datatypes = ("INT32", "FP64", "BYTES", "BOOL", "BF16", "", "int64", "FP8", "X" * 10_000)
    wrong_types = [request("score", [ones("user_id", 1, datatype=t), ones("movie_id", 1)]) for t in datatypes]
    return [
        *(missing, none, many, both, typed, unasked, memory, sequence, named, *wrong_types),
        request("score", []),
        request("score", [ones("user_id", 1)]),
        request("score", [*pairs(1), *pairs(1)]),
        request("score", [ones("user_id", 2), ones("movie_id", 1)]),
        request("score", [*pairs(1), ones("stars", 1)]),
        request("score", [ones("user_id", 4, [2, 2]), ones("movie_id", 4, [2, 2])]),
        request("scorer", pairs(1)),
        request("", pairs(1)),
        request("x" * 100_000, pairs(1)),
        request("../score", pairs(1)),
        request("recommend", [ones("user_id", 1), ("k", "INT32", [1], (0).to_bytes(4, "little"))]),
        request("recommend", [ones("user_id", 1), ("k", "INT32", [1], b"\0\0\0\x80")]),
        request("similar", [("movie_id", "INT64", [1], (-(2**62)).to_bytes(INT64, "little", signed=True))]),
    ]


def too_many() -> list[service_pb2.ModelInferRequest]:
    """Two million pairs, and two million movies of a history."""
    many = 2_000_000
    return [request("score", pairs(many)), request("recommend", [ones("user_id", 1), ones("history", many)])]


def _asking(made: Callable[[], list[service_pb2.ModelInferRequest]], name: str) -> Attack:
    """An attack that asks prepared requests in a random order."""

    def attack(target: Target, seconds: float, seed: int) -> Counter[str]:
        questions, rng, outcomes = made(), random.Random(seed), Counter[str]()
        until = time.monotonic() + seconds
        with grpc.insecure_channel(target.grpc, options=UNLIMITED) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while time.monotonic() < until:
                outcomes[_outcome(stub, rng.choice(questions), target, PATIENT_SECONDS)] += 1
        return outcomes

    attack.__name__ = name
    return attack


def _outcome(stub: Any, asked: service_pb2.ModelInferRequest, target: Target, seconds: float) -> str:
    try:
        stub.ModelInfer(asked, timeout=seconds, metadata=target.metadata)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            time.sleep(0.05)
        return str(error.code().name)
    return "OK"


def streams(target: Target, seconds: float, seed: int) -> Counter[str]:
    """Calls of the stream of requests and of what no client may use."""
    outcomes: Counter[str] = Counter()
    until = time.monotonic() + seconds
    questions = ordinary()
    with grpc.insecure_channel(target.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        calls: list[Callable[[], Any]] = [
            lambda: list(stub.ModelStreamInfer(iter(questions), timeout=PATIENT_SECONDS, metadata=target.metadata)),
            lambda: next(stub.ModelStreamInfer(iter(questions), timeout=0.003, metadata=target.metadata)),
            lambda: stub.RepositoryModelUnload(
                service_pb2.RepositoryModelUnloadRequest(model_name="scorer"), timeout=1, metadata=target.metadata
            ),
            lambda: stub.SystemSharedMemoryRegister(
                service_pb2.SystemSharedMemoryRegisterRequest(name="a", key="/a", byte_size=2**62),
                timeout=1,
                metadata=target.metadata,
            ),
            lambda: stub.ModelStatistics(
                service_pb2.ModelStatisticsRequest(name="../" * 1000), timeout=1, metadata=target.metadata
            ),
        ]
        rng = random.Random(seed)
        while time.monotonic() < until:
            try:
                rng.choice(calls)()
                outcomes["OK"] += 1
            except grpc.RpcError as error:
                outcomes[error.code().name] += 1
            time.sleep(0.01)
    return outcomes


overflow_shapes = _asking(overflowing, "overflow_shapes")
malformed_strings = _asking(bad_strings, "malformed_strings")
nonsense = _asking(confused, "nonsense")
two_million = _asking(too_many, "two_million")
GRPC: dict[str, Attack] = {
    "cancel storm": cancel_storm,
    "overflow shapes": overflow_shapes,
    "malformed strings": malformed_strings,
    "nonsense": nonsense,
    "two million pairs": two_million,
    "stream and control calls": streams,
}

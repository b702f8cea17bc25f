"""Configurations of models, and requests to them, for the tests of the front door."""

import json

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2, service_pb2

from ensemble.front_door.signature import Signature


def config(name: str, inputs: list[dict], outputs: list[dict], **parameters: str) -> Message:
    """A `ModelConfig`; a parameter `rows` is called `marquee.rows` there."""
    text = json.dumps(
        {
            "name": name,
            "input": inputs,
            "output": outputs,
            "parameters": {f"marquee.{key}": {"string_value": value} for key, value in parameters.items()},
        }
    )
    return json_format.Parse(text, model_config_pb2.ModelConfig())


def tensor(name: str, kind: str = "INT64", dims: tuple[int, ...] = (-1,), optional: bool = False) -> dict:
    return {"name": name, "data_type": f"TYPE_{kind}", "dims": list(dims)} | ({"optional": True} if optional else {})


SCORE = config(
    "score",
    [tensor("user_id"), tensor("movie_id")],
    [tensor("score", "FP32"), tensor("known", "BOOL")],
    rows="user_id,movie_id",
    rows_at_most="262144",
)
RECOMMEND = config(
    "recommend",
    [
        tensor("user_id", dims=(1,)),
        tensor("k", "INT32", (1,), optional=True),
        tensor("model", "STRING", (1,), optional=True),
        tensor("history", optional=True),
    ],
    [tensor("movie_id"), tensor("title", "STRING")],
    history_at_most="10000",
)
SCORER = config("scorer", [tensor("user_id")], [tensor("score", "FP32")], private="answers for score; ask score")
CONFIGS = {one.name: one for one in (SCORE, RECOMMEND, SCORER)}
SIGNATURES = {name: Signature(one) for name, one in CONFIGS.items()}


def add(request: Message, name: str, datatype: str, shape: list[int], raw: bytes) -> None:
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    request.raw_input_contents.append(raw)


def score_request(users: list[int], identity: str = "", version: str = "") -> Message:
    """Asks `score` for pairs of each user and the movie of the same number."""
    request = service_pb2.ModelInferRequest(model_name="score", id=identity, model_version=version)
    for name in ("user_id", "movie_id"):
        add(request, name, "INT64", [len(users)], np.array(users, np.int64).tobytes())
    return request


def recommend_request(user: int) -> Message:
    request = service_pb2.ModelInferRequest(model_name="recommend")
    add(request, "user_id", "INT64", [1], np.array([user], np.int64).tobytes())
    return request

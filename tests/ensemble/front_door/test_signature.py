"""What a request must be before Triton sees it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from ensemble.front_door.refusal import REASONS, Refusal
from ensemble.front_door.signature import Signature
from tests.ensemble.front_door.models import (
    RECOMMEND,
    SCORE,
    SIGNATURES,
    add,
    config,
    recommend_request,
    score_request,
    tensor,
)


def refused(request, reason: str, words: str = "") -> None:
    with pytest.raises(Refusal, match=words) as raised:
        SIGNATURES[request.model_name].check(request)
    assert raised.value.reason == reason
    assert reason in REASONS
    assert "\n" not in raised.value.sentence
    assert len(raised.value.sentence) < 400


def test_a_good_request_is_its_tensors():
    checked = SIGNATURES["score"].check(score_request([1, 2, 3]))
    assert checked.rows == 3
    assert checked.bytes == 48
    expected = np.array([1, 2, 3], np.int64).tobytes()
    assert checked.tensors == (("user_id", "INT64", (3,), expected), ("movie_id", "INT64", (3,), expected))


def test_inputs_come_in_the_order_of_the_configuration():
    request = score_request([1, 2])
    swapped = service_pb2.ModelInferRequest(model_name="score")
    for place in (1, 0):
        swapped.inputs.add().CopyFrom(request.inputs[place])
        swapped.raw_input_contents.append(request.raw_input_contents[place])
    assert SIGNATURES["score"].check(swapped) == SIGNATURES["score"].check(request)


def test_typed_values_are_the_same_request():
    request = service_pb2.ModelInferRequest(model_name="recommend")
    request.inputs.add(name="user_id", datatype="INT64", shape=[1]).contents.int64_contents.append(-7)
    request.inputs.add(name="model", datatype="BYTES", shape=[1]).contents.bytes_contents.append("é".encode())
    raw = recommend_request(-7)
    add(raw, "model", "BYTES", [1], b"\2\0\0\0" + "é".encode())
    assert SIGNATURES["recommend"].check(request) == SIGNATURES["recommend"].check(raw)


def test_optional_inputs_may_be_missing_and_others_not():
    assert SIGNATURES["recommend"].check(recommend_request(1)).rows == 1
    refused(service_pb2.ModelInferRequest(model_name="recommend"), "name", "user_id is missing")


OVERFLOWS = [
    [2**61],
    [2**62],
    [2**63 - 1],
    [2**62, 2],
    [2**32, 2**32],
    [2**61, 0],
    [0, 2**61],
    [-1],
    [-(2**63)],
    [-1, -1],
    [],
    [1, 1],
    [1] * 1000,
]


@pytest.mark.parametrize("shape", OVERFLOWS, ids=lambda shape: str(shape[:3]))
@pytest.mark.parametrize("content", [b"", bytes(8)])
@pytest.mark.parametrize("place", [0, 1])
def test_a_shape_whose_bytes_overflow_is_refused(shape, content, place):
    request = score_request([1])
    del request.inputs[place].shape[:]
    request.inputs[place].shape.extend(shape)
    request.raw_input_contents[place] = content
    with pytest.raises(Refusal) as raised:
        SIGNATURES["score"].check(request)
    assert raised.value.reason in ("shape", "limit", "bytes")


@pytest.mark.parametrize("shape", [[2**61], [0], [-1], [2]])
def test_overflow_in_a_fixed_or_optional_or_text_input_is_refused(shape):
    for name, datatype in (("k", "INT32"), ("model", "BYTES"), ("history", "INT64")):
        request = recommend_request(1)
        add(request, name, datatype, shape, b"")
        if (name, shape) == ("history", [0]):
            SIGNATURES["recommend"].check(request)
            continue
        with pytest.raises(Refusal):
            SIGNATURES["recommend"].check(request)


def test_of_several_free_dimensions_none_may_be_past_the_limit():
    """A product with a zero in it says nothing of the others."""
    model = Signature(config("m", [tensor("x", dims=(-1, -1))], [tensor("y")], x_at_most="100"))
    for shape in ([0, 2**61], [2**61, 0], [0, 2**63 - 1], [2**32, 2**32]):
        request = service_pb2.ModelInferRequest(model_name="m")
        add(request, "x", "INT64", shape, b"")
        with pytest.raises(Refusal):
            model.check(request)
    request = service_pb2.ModelInferRequest(model_name="m")
    add(request, "x", "INT64", [0, 100], b"")
    model.check(request)


def test_zero_rows_are_a_request():
    assert SIGNATURES["score"].check(score_request([])).rows == 0


def test_rows_that_differ_are_refused_by_their_shapes():
    request = score_request([1, 2])
    request.inputs[1].shape[0] = 1
    request.raw_input_contents[1] = bytes(8)
    refused(request, "shape", r"user_id has shape \[2\] and movie_id has shape \[1\]")


def test_more_rows_than_the_limit_are_refused():
    SIGNATURES["score"].check(score_request([1] * 262_144))
    refused(score_request([1] * 262_145), "limit", "262145 elements; ask for at most 262144")
    request = recommend_request(1)
    add(request, "history", "INT64", [10_001], bytes(80_008))
    refused(request, "limit", "history")


@pytest.mark.parametrize("datatype", ["FP64", "INT32", "BYTES", "", "int64", "TYPE_INT64", "x" * 1_000_000])
def test_another_type_is_refused(datatype):
    request = score_request([1])
    request.inputs[0].datatype = datatype
    refused(request, "type", "it must be INT64")


@pytest.mark.parametrize("name", ["", "user", "USER_ID", "x" * 1_000_000, "a\nb", "\0"])
def test_an_unknown_input_or_output_is_refused(name):
    request = score_request([1])
    request.inputs[0].name = name
    refused(request, "name", "score has no input")
    request = score_request([1])
    request.outputs.add(name=name)
    refused(request, "name", "score has no output")


def test_a_name_that_is_there_twice_is_refused():
    request = score_request([1])
    add(request, "user_id", "INT64", [1], bytes(8))
    refused(request, "name", "twice")
    request = score_request([1])
    for _ in range(2):
        request.outputs.add(name="score")
    refused(request, "name", "twice")


def test_both_forms_at_once_and_bytes_for_some_inputs_are_refused():
    request = score_request([1])
    request.inputs[0].contents.int64_contents.append(1)
    refused(request, "bytes", "twice")
    for count in (1, 3):
        request = score_request([1])
        raws = [bytes(8)] * count
        del request.raw_input_contents[:]
        request.raw_input_contents.extend(raws)
        refused(request, "bytes", "2 inputs, and the bytes of")
    request = score_request([1])
    del request.raw_input_contents[:]
    refused(request, "bytes", "0 values; its shape says 1")


@pytest.mark.parametrize("parameter", ["shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"])
def test_shared_memory_is_refused(parameter):
    for where in ("inputs", "outputs"):
        request = score_request([1])
        if where == "outputs":
            request.outputs.add(name="score")
        getattr(request, where)[0].parameters[parameter].string_param = "region"
        refused(request, "name", "shared memory is not served")


def test_other_parameters_of_a_tensor_are_refused():
    request = score_request([1])
    request.outputs.add(name="score").parameters["classification"].int64_param = 3
    refused(request, "name", "'classification' is not served")
    request = score_request([1])
    request.outputs.add(name="score").parameters["binary_data"].bool_param = True
    assert SIGNATURES["score"].check(request).outputs == ("score",)


def test_rows_that_cannot_be_joined_are_no_rows():
    """A configuration that says so is not believed: joining would put one client's rows in another's answer."""
    for inputs, outputs in (
        ([tensor("a", "STRING")], [tensor("y")]),
        ([tensor("a", dims=(-1, 2))], [tensor("y")]),
        ([tensor("a", dims=(3,))], [tensor("y")]),
        ([tensor("a", optional=True)], [tensor("y")]),
        ([tensor("a")], [tensor("y", "STRING")]),
        ([tensor("a")], [tensor("y", dims=(-1, 4))]),
        ([tensor("b")], [tensor("y")]),
    ):
        assert not Signature(config("m", inputs, outputs, rows="a")).rows


SHAPES = st.lists(st.one_of(st.integers(-2, 3), st.integers(-(2**63), 2**63 - 1)), max_size=3)
TENSORS = st.tuples(
    st.sampled_from(["user_id", "movie_id", "k", "model", "history", "x"]),
    st.sampled_from(["INT64", "INT32", "BYTES", "FP32", ""]),
    SHAPES,
    st.one_of(st.integers(0, 4).map(lambda count: bytes(8 * count)), st.binary(max_size=20)),
    st.sampled_from(["raw", "typed", "both", "none"]),
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([SCORE, RECOMMEND]), st.lists(TENSORS, max_size=4))
def test_any_request_is_refused_or_has_the_bytes_of_its_shapes(model, tensors):
    request = service_pb2.ModelInferRequest(model_name=model.name)
    for name, datatype, shape, raw, form in tensors:
        one = request.inputs.add(name=name, datatype=datatype, shape=shape)
        if form in ("raw", "both"):
            request.raw_input_contents.append(raw)
        if form in ("typed", "both"):
            one.contents.int64_contents.extend([1] * (len(raw) // 8))
    try:
        checked = SIGNATURES[model.name].check(request)
    except Refusal:
        return
    for name, datatype, shape, raw in checked.tensors:
        assert datatype in ("BYTES", "INT64", "INT32")
        assert all(0 <= one <= 262_144 for one in shape)
        if datatype != "BYTES":
            assert len(raw) == int(np.prod(shape)) * (4 if datatype == "INT32" else 8), name
    assert checked.rows >= 0


PURE = """
import json, sys
from google.protobuf.internal import api_implementation
from ensemble.front_door.refusal import Refusal
from tests.ensemble.front_door.models import *
found = [api_implementation.Type()]
request = score_request([1, 2**40, -1])
found.append(SIGNATURES["score"].check(request).bytes)
typed = service_pb2.ModelInferRequest(model_name="recommend")
typed.inputs.add(name="user_id", datatype="INT64", shape=[1]).contents.int64_contents.append(-7)
typed.inputs.add(name="model", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"ncf")
found.append([raw.hex() for *_, raw in SIGNATURES["recommend"].check(typed).tensors])
for shape in ([2**61], [-1], []):
    del request.inputs[0].shape[:]
    request.inputs[0].shape.extend(shape)
    try:
        SIGNATURES["score"].check(request)
    except Refusal as refusal:
        found.append(refusal.reason)
request = score_request([1])
request.inputs[0].contents.int64_contents.append(1)
try:
    SIGNATURES["score"].check(request)
except Refusal as refusal:
    found.append(refusal.sentence)
print(json.dumps(found))
"""


@pytest.mark.parametrize("implementation", ["python", ""])
def test_each_implementation_of_protobuf_gives_the_same(implementation):
    """NVIDIA's image has the one in Python; elsewhere it is protobuf's own choice, in C."""
    environment = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
    if not implementation:
        del environment["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"]
    run = subprocess.run([sys.executable, "-c", PURE], env=environment, capture_output=True, text=True, check=True)
    kind, *found = json.loads(run.stdout)
    assert kind in ({implementation} if implementation else {"upb", "cpp"})
    assert found == [
        48,
        [np.array([-7]).tobytes().hex(), (b"\3\0\0\0ncf").hex()],
        "limit",
        "shape",
        "shape",
        "user_id has its values twice, as bytes and as a list",
    ]

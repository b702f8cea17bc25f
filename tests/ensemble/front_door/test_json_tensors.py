"""KServe's JSON and Triton's binary tensor data: what goes in comes out, as NumPy has it, and the rest is refused."""

import json
import math
import time

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor

from ensemble.front_door.json_messages import plain, read_infer_body, write_infer_body
from ensemble.front_door.json_tensors import FORMATS, framed, unframed
from ensemble.front_door.refusal import Refusal

NUMPY = {datatype: np.dtype(f"<{code}") for datatype, (code, _) in FORMATS.items()}


def body(*inputs, **others) -> bytes:
    return json.dumps({"inputs": list(inputs), **others}).encode()


def tensor(datatype, shape, **others):
    return {"name": "x", "datatype": datatype, "shape": shape, **others}


def read(text: bytes, header_length: int | None = None):
    return read_infer_body(text, header_length, "scorer", "")


def refused(text: bytes, header_length: int | None = None) -> Refusal:
    start = time.perf_counter()
    with pytest.raises(Refusal) as caught:
        read(text, header_length)
    assert time.perf_counter() - start < 5, "for hangs only"
    refusal = caught.value
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(refusal.sentence) < 400
    assert "\n" not in refusal.sentence
    return refusal


@st.composite
def of_any_type(draw):
    datatype = draw(st.sampled_from(sorted(NUMPY)))
    shape = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
    elements = {"allow_nan": False, "allow_infinity": False} if NUMPY[datatype].kind == "f" else None
    return datatype, draw(arrays.arrays(NUMPY[datatype], shape, elements=elements))


def answered(request, asked) -> tuple[dict, bytes]:
    """The inputs as outputs, through the writer: its JSON and its binary data."""
    response = service_pb2.ModelInferResponse(model_name="scorer", model_version="1", id=request.id)
    for one, raw in zip(request.inputs, request.raw_input_contents):
        response.outputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        response.raw_output_contents.append(raw)
    written, length = write_infer_body(response, asked)
    text = written if length is None else written[:length]
    return json.loads(text), b"" if length is None else written[length:]


@settings(max_examples=80, deadline=None)
@given(given_tensor=of_any_type(), nested=st.booleans())
def test_values_go_through_json_as_they_are(given_tensor, nested):
    datatype, values = given_tensor
    data = values.tolist() if nested and values.ndim else values.flatten().tolist()
    asked = read(body(tensor(datatype, list(values.shape), data=data)))
    assert asked.request.raw_input_contents[0] == values.tobytes()
    written, rest = answered(asked.request, asked)
    output = written["outputs"][0]
    assert rest == b""
    assert (output["name"], output["datatype"], output["shape"]) == ("x", datatype, list(values.shape))
    assert np.array(output["data"], values.dtype).tobytes() == values.tobytes()


@settings(max_examples=50, deadline=None)
@given(given_tensors=st.lists(of_any_type(), min_size=1, max_size=4))
def test_values_go_through_binary_data_as_they_are(given_tensors):
    inputs = [
        tensor(datatype, list(values.shape), parameters={"binary_data_size": values.nbytes}) | {"name": f"x{place}"}
        for place, (datatype, values) in enumerate(given_tensors)
    ]
    text = body(*inputs, parameters={"binary_data_output": True})
    contents = [values.tobytes() for _, values in given_tensors]
    asked = read(text + b"".join(contents), len(text))
    assert list(asked.request.raw_input_contents) == contents
    written, rest = answered(asked.request, asked)
    assert rest == b"".join(contents)
    assert [one["parameters"]["binary_data_size"] for one in written["outputs"]] == [len(raw) for raw in contents]


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_texts_go_through_json_as_they_are(texts):
    asked = read(body(tensor("BYTES", [len(texts)], data=texts)))
    raw = asked.request.raw_input_contents[0]
    numpys = serialize_byte_tensor(np.array(texts, np.object_))
    assert raw == (numpys.item() if numpys.size else b"")
    assert answered(asked.request, asked)[0]["outputs"][0]["data"] == texts


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.binary()))
def test_frames_are_read_back(texts):
    assert unframed(framed(texts)) == texts


@pytest.mark.parametrize(
    ("datatype", "value", "said"),
    [
        ("INT64", True, "True is not a value of datatype INT64"),
        ("INT64", 1.5, "1.5 is not a value of datatype INT64"),
        ("INT64", 1.0, "1.0 is not a value of datatype INT64"),
        ("INT64", "1", "'1' is not a value of datatype INT64"),
        ("INT64", None, "None is not a value of datatype INT64"),
        ("INT64", [1], "is not a value of datatype INT64"),
        ("INT64", {"a": 1}, "an object is not a value of datatype INT64"),
        ("INT64", 2**63, "9223372036854775808 is out of the range of INT64"),
        ("INT32", -(2**31) - 1, "-2147483649 is out of the range of INT32"),
        ("UINT64", -1, "-1 is out of the range of UINT64"),
        ("UINT8", 256, "256 is out of the range of UINT8"),
        ("INT8", 128, "128 is out of the range of INT8"),
        ("FP32", 1e39, "out of the range of FP32"),
        ("FP16", 70000, "out of the range of FP16"),
        ("FP64", 10**400, "out of the range of FP64"),
        ("FP32", True, "True is not a value of datatype FP32"),
        ("BOOL", 1, "1 is not a value of datatype BOOL"),
        ("BOOL", "true", "'true' is not a value of datatype BOOL"),
        ("BYTES", 1, "1 is not a value of datatype BYTES"),
        ("BF16", 1, "'BF16' is not a datatype that JSON can hold"),
        ("int64", 1, "'int64' is not a datatype that JSON can hold"),
    ],
)
def test_no_value_is_converted(datatype, value, said):
    good = {"BOOL": True, "BYTES": "a"}.get(datatype, 1)
    refusal = refused(body(tensor(datatype, [3], data=[good, value, good])))
    assert "tensor 'x': " in refusal.sentence
    assert said in refusal.sentence
    assert refusal.reason == "type"


def test_a_number_beyond_floating_point_is_out_of_range():
    for datatype in ("FP16", "FP32", "FP64"):
        text = body(tensor(datatype, [1], data=[7])).replace(b"7", b"1e999")
        assert "out of the range" in refused(text).sentence


@pytest.mark.parametrize(
    "shape",
    [[2**31], [2**61], [2**32, 2**32], [2**63], [2**64], [-1], [-1, -4], [3], [2, 2, 2], [4, 0], [], [10**400]],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_shape_that_is_not_the_datas_is_refused(shape, nested):
    data = [[1, 2], [3, 4]] if nested else [1, 2, 3, 4]
    refusal = refused(body(tensor("INT64", shape, data=data)))
    assert "tensor 'x': " in refusal.sentence
    assert refusal.reason in {"shape", "type"}


@pytest.mark.parametrize("shape", [[2**31], [2**61], [2**32, 2**32], [2**63], [-1], [-1, -1], [2], [0]])
def test_a_shape_that_is_not_the_binary_datas_is_refused(shape):
    text = body(tensor("INT64", shape, parameters={"binary_data_size": 8}))
    refusal = refused(text + bytes(8), len(text))
    assert refusal.reason in {"shape", "bytes"}
    text = body(tensor("INT64", shape, parameters={"binary_data_size": 0}))
    if shape != [0]:
        refused(text, len(text))


@pytest.mark.parametrize("data", [[[1, 2], [3]], [[1, 2], 3], [[1, 2, 3, 4]], [[[1], [2]], [[3], [4]]], [1, [2, 3, 4]]])
def test_lists_that_are_nested_otherwise_are_refused(data):
    assert "'x'" in refused(body(tensor("INT64", [2, 2], data=data))).sentence


@pytest.mark.parametrize("data", [1, "1", {"0": 1}, True])
def test_data_that_is_no_list_is_refused(data):
    assert "its data must be a list" in refused(body(tensor("INT64", [1], data=data))).sentence


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b'{"inputs":[{"name":"x","datatype":"INT64","shape":[1],"data":' + b"[" * 100_000, "nested too deep"),
        (b"[" * 1_000_000, "more than 600,000 lists"),
        (b"[" + b"{}," * 700_000 + b"{}]", "more than 600,000 lists"),
        (b"", "the body is empty"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"null", "the body: input should be"),
        (b"[]", "the body: input should be"),
        (b"{}", "inputs: field required"),
        (b'{"inputs": [1]}', "inputs[0]: input should be"),
        (b'{"inputs": [{"name": 1, "datatype": "INT64", "shape": [1], "data": [1]}]}', "inputs[0].name: input"),
        (b'{"inputs": [{"name": "x", "datatype": "INT64", "shape": [1.0], "data": [1]}]}', "inputs[0].shape[0]: input"),
        (b'{"inputs": [{"name": "x", "datatype": "INT64", "shape": [true], "data": [1]}]}', "inputs[0].shape[0]: inp"),
        (b'{"inputs": [{"name": "x", "datatype": "INT64", "shape": [1]}]}', "tensor 'x' has no data"),
        (b'{"inputs": [], "parameters": {"a": [1]}}', "parameters.a"),
        (b'{"inputs": [], "parameters": {"a": 36893488147419103232}}', "does not fit 64 bits"),
        (b'{"inputs": [], "parameters": {"timeout": 1.5}}', "timeout must be whole microseconds"),
        (b'{"inputs": [], "parameters": {"timeout": -1}}', "timeout must be whole microseconds"),
        (b'{"inputs": [], "parameters": {"binary_data_output": 1}}', "binary_data_output must be true or false"),
        (b'{"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": 3}}]}', "classification"),
        (b'{"inputs": [], "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}', "binary_data must be true"),
        (b'{"inputs": [], "outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]}', "shared memory"),
        (b'{"inputs": [], "id": 7}', "id: input should be a valid string"),
        (b'{"inputs": [], "x": NaN}', "not valid JSON"),
        (b'{"inputs": [], "x": -Infinity}', "not valid JSON"),
        (b'{"inputs": [], "x": ' + b"9" * 5_000_000 + b"}", "not valid JSON"),
        (b'{"inputs": []} {"inputs": []}', "not valid JSON"),
        (b'{"inputs": [' + b"1," * 2_000_000 + b"1]}", "inputs: list should have at most 64"),
        (b'{"inputs": [{"name":"x","datatype":"INT64","shape":[' + b"1," * 2_000_000 + b"1]}]}", "at most 16"),
    ],
)
def test_what_is_no_request_is_refused_in_a_sentence(text, said):
    assert said in refused(text).sentence


@pytest.mark.parametrize(
    ("parameters", "data", "header", "rest", "said"),
    [
        ({"binary_data_size": 8}, None, 0, b"", "the JSON must have"),
        ({"binary_data_size": 8}, None, 5, b"", "0 bytes are left"),
        ({"binary_data_size": 8}, None, 5, bytes(7), "7 bytes are left"),
        ({"binary_data_size": 8}, None, 5, bytes(9), "1 bytes of binary data belong to no input"),
        ({"binary_data_size": 16}, None, 5, bytes(16), "has 8 bytes, not 16"),
        ({"binary_data_size": -8}, None, 5, bytes(8), "-8 is not a binary_data_size"),
        ({"binary_data_size": 8.0}, None, 5, bytes(8), "8.0 is not a binary_data_size"),
        ({"binary_data_size": True}, None, 5, bytes(8), "True is not a binary_data_size"),
        ({"binary_data_size": 8}, [1], 5, bytes(8), "leave one out"),
        ({"shared_memory_region": "r", "shared_memory_byte_size": 8}, None, 5, b"", "shared memory is not supported"),
    ],
)
def test_binary_data_that_contradicts_itself_is_refused(parameters, data, header, rest, said):
    text = body(tensor("INT64", [1], parameters=parameters, data=data))
    assert said in refused(text + rest, header and len(text)).sentence


@pytest.mark.parametrize("length", [-1, 0, 10_000, 2**64])
def test_a_wrong_length_of_the_json_is_refused(length):
    assert "the JSON must have 1 to" in refused(body(tensor("INT64", [1], data=[1])), length).sentence


def test_the_clients_patience_and_its_other_parameters():
    asked = read(body(parameters={"timeout": 250_000, "priority": 3, "a": "b", "c": 1.5, "d": True}))
    assert asked.seconds == pytest.approx(0.25)
    kept = {name: value.WhichOneof("parameter_choice") for name, value in asked.request.parameters.items()}
    assert kept == {"priority": "int64_param", "a": "string_param", "c": "double_param", "d": "bool_param"}
    assert read(body()).seconds is None
    assert read(body(parameters={"timeout": 0})).seconds is None
    assert math.isfinite(read(body(parameters={"timeout": 2**62})).seconds)


def test_each_output_comes_as_it_was_asked_for():
    def outputs(**parameters):
        asked = read(
            body(
                tensor("INT32", [1], data=[5]) | {"name": "a"},
                tensor("INT32", [1], data=[6]) | {"name": "b"},
                outputs=[{"name": "a", "parameters": {"binary_data": True}}, {"name": "b"}],
                parameters=parameters,
            )
        )
        assert [output.name for output in asked.request.outputs] == ["a", "b"]
        return answered(asked.request, asked)

    written, rest = outputs()
    assert written["outputs"][0]["parameters"] == {"binary_data_size": 4}
    assert "data" not in written["outputs"][0]
    assert written["outputs"][1]["data"] == [6]
    assert rest == np.array([5], "<i4").tobytes()
    written, rest = outputs(binary_data_output=True)
    assert rest == np.array([5, 6], "<i4").tobytes()


@pytest.mark.parametrize(
    ("datatype", "raw", "said"),
    [
        ("FP32", np.array([np.nan], "<f4").tobytes(), "NaN"),
        ("FP32", np.array([-np.inf], "<f4").tobytes(), "infinite"),
        ("BYTES", framed([b"\xff"]), "not UTF-8"),
        ("BYTES", b"\x09\x00\x00\x00a", "not of its datatype"),
        ("BYTES", b"\x09", "not of its datatype"),
        ("INT64", bytes(7), "not of its datatype"),
        ("BF16", bytes(2), "BF16"),
    ],
)
def test_an_answer_that_json_cannot_say_is_an_error(datatype, raw, said):
    response = service_pb2.ModelInferResponse(model_name="scorer")
    response.outputs.add(name="scores", datatype=datatype, shape=[1])
    with pytest.raises(Refusal, match="without contents"):
        write_infer_body(response, read(body()))
    response.raw_output_contents.append(raw)
    with pytest.raises(Refusal, match=said) as caught:
        write_infer_body(response, read(body()))
    assert caught.value.code is grpc.StatusCode.INTERNAL
    asked = read(body(parameters={"binary_data_output": True}))
    written, length = write_infer_body(response, asked)
    assert written[length:] == raw


def test_protobufs_are_shown_with_numbers_as_numbers():
    response = service_pb2.ModelStatisticsResponse()
    response.model_stats.add(name="a", inference_count=2**60).batch_stats.add(batch_size=4)
    shown = plain(response)["model_stats"][0]
    assert shown["inference_count"] == 2**60
    assert shown["execution_count"] == 0
    assert shown["batch_stats"][0]["batch_size"] == 4
    assert "inference_stats" not in shown

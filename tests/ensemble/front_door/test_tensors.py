"""The bytes of a tensor in both of its forms, against numpy's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from ensemble.front_door.refusal import Refusal
from ensemble.front_door.tensors import MOST_TEXT, SIZES, TYPED, check_raw, raw_from_typed

NUMPY = {
    "BOOL": np.bool_, "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip


def bounds(datatype: str) -> tuple[int, int]:
    kind = NUMPY[datatype]
    return (0, 1) if kind is np.bool_ else (int(np.iinfo(kind).min), int(np.iinfo(kind).max))


def values_of(datatype: str) -> st.SearchStrategy:
    if datatype.startswith("FP"):
        return st.lists(st.floats(width=int(datatype[2:])))
    lowest, highest = bounds(datatype)
    return st.lists(st.integers(lowest, highest))


def typed(datatype: str, values: list) -> service_pb2.InferTensorContents:
    contents = service_pb2.InferTensorContents()
    field = "bytes_contents" if datatype == "BYTES" else TYPED[datatype][0]
    getattr(contents, field).extend(map(bool, values) if datatype == "BOOL" else values)
    return contents


@pytest.mark.parametrize("datatype", NUMPY)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_list_of_values_becomes_the_bytes_that_numpy_has(datatype, data):
    values = data.draw(values_of(datatype))
    expected = np.array(values, NUMPY[datatype]).tobytes()
    assert raw_from_typed("x", datatype, len(values), typed(datatype, values)) == expected
    check_raw("x", datatype, len(values), expected)


@pytest.mark.parametrize("datatype", [name for name in NUMPY if name.endswith(("INT8", "INT16"))])
def test_a_value_that_does_not_fit_in_its_type_is_refused(datatype):
    lowest, highest = bounds(datatype)
    for value in (lowest - 1, highest + 1):
        if value < 0 and datatype.startswith("U"):
            continue  # protobuf itself refuses it
        with pytest.raises(Refusal, match="does not fit"):
            raw_from_typed("x", datatype, 1, typed(datatype, [value]))


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_what_has_no_list_form_is_refused_there(datatype):
    with pytest.raises(Refusal, match="cannot be in"):
        raw_from_typed("x", datatype, 1, typed("FP32", [1.0]))
    with pytest.raises(Refusal, match="cannot be in"):
        raw_from_typed("x", datatype, 0, service_pb2.InferTensorContents())


def test_values_of_another_type_are_refused_also_beside_the_right_ones():
    contents = typed("INT64", [1])
    with pytest.raises(Refusal, match="fp32_contents") as raised:
        raw_from_typed("x", "INT64", 1, typed("FP32", [1.0]))
    assert raised.value.reason == "type"
    contents.bytes_contents.append(b"1")
    with pytest.raises(Refusal, match="bytes_contents"):
        raw_from_typed("x", "INT64", 1, contents)


@pytest.mark.parametrize("count", [0, 2, 2**61])
def test_another_number_of_values_than_the_shape_says_is_refused(count):
    for datatype, value in (("INT64", 1), ("BYTES", b"a"), ("BOOL", True)):
        with pytest.raises(Refusal, match="its shape says"):
            raw_from_typed("x", datatype, count, typed(datatype, [value]))


@pytest.mark.parametrize("datatype", SIZES)
@pytest.mark.parametrize("count", [0, 1, 7, 2**61, 2**64])
@pytest.mark.parametrize("more", [-1, 1, 0])
def test_another_number_of_bytes_than_the_shape_says_is_refused(datatype, count, more):
    length = min(count * SIZES[datatype], 56) + more
    if length < 0:
        return
    if length == count * SIZES[datatype]:
        return check_raw("x", datatype, count, bytes(length))
    with pytest.raises(Refusal) as raised:
        check_raw("x", datatype, count, bytes(length))
    assert raised.value.reason == "bytes"
    return None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=20))
def test_texts_become_the_bytes_that_tritonclient_makes(texts):
    raw = raw_from_typed("x", "BYTES", len(texts), typed("BYTES", texts))
    expected = serialize_byte_tensor(np.array(texts, np.object_))
    assert raw == (expected.item() if texts else b"")
    check_raw("x", "BYTES", len(texts), raw)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 6), st.one_of(st.binary(max_size=60), st.lists(st.binary(max_size=9), max_size=6)), st.data())
def test_texts_pass_only_where_their_lengths_add_up(count, raw, data):
    """Against tritonclient's own reader; one byte of a good tensor may be changed, and its end cut off."""
    if isinstance(raw, list):
        raw = bytearray(b"".join(len(text).to_bytes(4, "little") + text for text in raw))
        if raw and data.draw(st.booleans()):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        raw = bytes(raw[: len(raw) - data.draw(st.integers(0, 4))])
    try:
        read = deserialize_bytes_tensor(raw)
        good = len(read) == count and sum(4 + len(text) for text in read) == len(raw)
    except Exception:  # struct.error, and what numpy makes of it
        good = False
    if good:
        check_raw("x", "BYTES", count, raw)
    else:
        with pytest.raises(Refusal):
            check_raw("x", "BYTES", count, raw)


@pytest.mark.parametrize(
    ("count", "raw"),
    [
        (1, b""),
        (1, b"\1"),
        (1, b"\1\0\0"),
        (1, b"\1\0\0\0"),
        (1, b"\xff\xff\xff\xff"),
        (1, b"\xff\xff\xff\xffabcd"),
        (1, b"\0\0\0\0\0"),
        (1, b"\0\0\0\0\0\0\0\0"),
        (2, b"\0\0\0\0"),
        (2**61, b"\0\0\0\0"),
        (0, b"\0\0\0\0"),
        (0, b"a"),
    ],
)
def test_malformed_texts_are_refused(count, raw):
    with pytest.raises(Refusal) as raised:
        check_raw("x", "BYTES", count, raw)
    assert raised.value.reason == "bytes"


def test_a_long_text_is_refused():
    for length in (MOST_TEXT, MOST_TEXT + 1):
        raw = length.to_bytes(4, "little") + bytes(length)
        if length <= MOST_TEXT:
            check_raw("x", "BYTES", 1, raw)
        else:
            with pytest.raises(Refusal) as raised:
                check_raw("x", "BYTES", 1, raw)
            assert raised.value.reason == "limit"

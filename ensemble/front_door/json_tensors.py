"""The values of tensors in JSON, in the bytes of KServe's raw contents, and from one to the other."""

import itertools
import math
import struct
from collections.abc import Iterable
from typing import Any

import grpc
import numpy as np
from pydantic_core import from_json

from ensemble.front_door.refusal import Refusal

# KServe's fixed-size datatypes: the format of `struct`, which NumPy shares, and the types that JSON may have for it.
FORMATS: dict[str, tuple[str, set[type]]] = {
    "BOOL": ("?", {bool}),
    "INT8": ("b", {int}),
    "INT16": ("h", {int}),
    "INT32": ("i", {int}),
    "INT64": ("q", {int}),
    "UINT8": ("B", {int}),
    "UINT16": ("H", {int}),
    "UINT32": ("I", {int}),
    "UINT64": ("Q", {int}),
    "FP16": ("e", {int, float}),
    "FP32": ("f", {int, float}),
    "FP64": ("d", {int, float}),
}
MOST_LISTS = 600_000  # lists and objects in one body: two tensors of 262,144 rows of one value fit in
SLICE = 16_384  # values converted at a time: between two slices other threads of the process go on
LONGEST_DIMENSION = 2**63 - 1
SHOWN = 60  # characters of a client's text in a sentence


def shown(value: object) -> str:
    """A client's value for a sentence: its repr, cut, on one line."""
    if isinstance(value, dict):
        return "an object"
    text = repr(value[:SHOWN] if isinstance(value, (str, list)) else value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def malformed(sentence: str, reason: str) -> Refusal:
    """The refusal of what the client has to change."""
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, sentence, reason)


def parsed(text: bytes) -> Any:
    """What JSON says, as Python's values.

    Raises:
        Refusal: it is not JSON (which has no NaN and no Infinity), is nested too deep, or has too many lists.
    """
    if text.count(b"[") + text.count(b"{") > MOST_LISTS:
        raise malformed(f"the JSON has more than {MOST_LISTS:,} lists and objects", "limit")
    try:
        return from_json(text, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        reason = str(error).replace("recursion limit exceeded", "it is nested too deep")
        raise malformed(f"the body is not valid JSON: {reason}", "bytes") from None


def values_of(name: str, shape: list[int]) -> int:
    """How many values a shape has.

    Raises:
        Refusal: a dimension is negative, or larger than 64 bits can say.
    """
    for dimension in shape:
        if not 0 <= dimension <= LONGEST_DIMENSION:
            raise malformed(f"tensor {shown(name)}: {shown(dimension)} is not a dimension", "shape")
    return math.prod(shape)


def bytes_of(name: str, datatype: str, shape: list[int]) -> int | None:
    """How many bytes a tensor has; None for BYTES, and for a datatype that is not KServe's."""
    count = values_of(name, shape)
    return count * struct.calcsize(FORMATS[datatype][0]) if datatype in FORMATS else None


def packed(name: str, datatype: str, shape: list[int], data: Any) -> bytes:
    """The raw contents of a tensor that was given in JSON.

    Args:
        name: of the tensor, for sentences.
        datatype: KServe's.
        shape: as the client gave it.
        data: a flat list in row-major order, or lists nested as the shape says.

    Raises:
        Refusal: the values do not fit the shape or the datatype. Nothing is converted but whole numbers to floating
            point.
    """
    values = _flat(name, shape, data)
    if datatype == "BYTES":
        _check_types(name, datatype, values, {str})
        return framed(text.encode() for text in values)
    if datatype not in FORMATS:
        raise malformed(f"tensor {shown(name)}: {shown(datatype)} is not a datatype that JSON can hold", "type")
    code, allowed = FORMATS[datatype]
    slices = (values[start : start + SLICE] for start in range(0, len(values), SLICE))
    return b"".join([_packed_slice(name, datatype, code, allowed, part) for part in slices])


def unpacked(name: str, datatype: str, raw: bytes) -> list[Any]:
    """The values of raw contents as JSON says them, in one flat list.

    Raises:
        Refusal: JSON cannot say them (NaN, infinity, text that is not UTF-8), or they are not of this datatype.
    """
    if datatype == "BYTES":
        try:
            return [text.decode() for text in unframed(raw)]
        except UnicodeDecodeError:
            raise _not_in_json(name, "text that is not UTF-8") from None
        except (ValueError, struct.error):
            raise _not_of_type(name, datatype) from None
    if datatype not in FORMATS:
        raise _not_in_json(name, f"values of datatype {datatype}")
    code, allowed = FORMATS[datatype]
    if len(raw) % struct.calcsize(code):
        raise _not_of_type(name, datatype)
    array = np.frombuffer(raw, f"<{code}")
    if float in allowed and not np.isfinite(array).all():
        raise _not_in_json(name, "NaN or an infinite value")
    return list(array.tolist())


def framed(texts: Iterable[bytes]) -> bytes:
    """KServe's raw contents of BYTES: each text after its length, four bytes, the lowest first."""
    return b"".join(itertools.chain.from_iterable((len(text).to_bytes(4, "little"), text) for text in texts))


def unframed(raw: bytes) -> list[bytes]:
    """The texts in the raw contents of BYTES.

    Raises:
        ValueError, struct.error: they end within a text or a length.
    """
    texts, place = [], 0
    while place < len(raw):
        (length,) = struct.unpack_from("<I", raw, place)
        place += 4 + length
        if place > len(raw):
            raise ValueError("a text ends early")
        texts.append(raw[place - length : place])
    return texts


def _flat(name: str, shape: list[int], data: Any) -> list[Any]:
    """The values in one list, whose length is the shape's.

    Raises:
        Refusal: they do not fit it.
    """
    count = values_of(name, shape)
    if type(data) is not list:
        raise malformed(f"tensor {shown(name)}: its data must be a list, not {shown(data)}", "type")
    if len(shape) < 2 or not data or type(data[0]) is not list:
        if len(data) != count:
            raise malformed(
                f"tensor {shown(name)}: its shape {shown(shape)} has {shown(count)} values, its data {len(data)}",
                "shape",
            )
        return data
    level = [data]
    for dimension in shape:
        if not all(type(inner) is list and len(inner) == dimension for inner in level):
            raise malformed(f"tensor {shown(name)}: its data is not nested as its shape {shown(shape)}", "shape")
        level = list(itertools.chain.from_iterable(level))
    return level


def _packed_slice(name: str, datatype: str, code: str, allowed: set[type], values: list[Any]) -> bytes:
    _check_types(name, datatype, values, allowed)
    try:
        raw = struct.pack(f"<{len(values)}{code}", *values)
    except (struct.error, OverflowError):
        wrong = next(value for value in values if not _fits(code, value))
        raise malformed(f"tensor {shown(name)}: {shown(wrong)} is out of the range of {datatype}", "type") from None
    if float in allowed and not np.isfinite(np.frombuffer(raw, f"<{code}")).all():  # JSON's 1e999
        raise malformed(f"tensor {shown(name)}: a value is out of the range of {datatype}", "type")
    return raw


def _check_types(name: str, datatype: str, values: list[Any], allowed: set[type]) -> None:
    if not set(map(type, values)) <= allowed:
        wrong = next(value for value in values if type(value) not in allowed)
        raise malformed(f"tensor {shown(name)}: {shown(wrong)} is not a value of datatype {datatype}", "type")


def _fits(code: str, value: Any) -> bool:
    try:
        struct.pack(f"<{code}", value)
    except (struct.error, OverflowError):
        return False
    return True


def _not_in_json(name: str, what: str) -> Refusal:
    sentence = f"the output {shown(name)} has {what}, which JSON cannot say; ask for it with binary_data"
    return Refusal(grpc.StatusCode.INTERNAL, sentence, "triton")


def _not_of_type(name: str, datatype: str) -> Refusal:
    sentence = f"the model's output {shown(name)} is not of its datatype {datatype}"
    return Refusal(grpc.StatusCode.INTERNAL, sentence, "triton")

"""The contents of a tensor as bytes, from either of the two forms that KServe's gRPC has, and checks of them."""

import sys
from array import array

from google.protobuf.message import Message

from ensemble.front_door.refusal import bad

# Bytes of one element; a STRING has its own length before it.
SIZES = {
    "BOOL": 1, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "FP16": 2, "BF16": 2,
    "UINT32": 4, "INT32": 4, "FP32": 4, "UINT64": 8, "INT64": 8, "FP64": 8,
}  # fmt: skip
BYTES = "BYTES"
# The field of `InferTensorContents` that holds a type, and the letter of Python's `array` for its elements.
TYPED = {
    "BOOL": ("bool_contents", "B"),
    "INT8": ("int_contents", "b"), "INT16": ("int_contents", "h"), "INT32": ("int_contents", "i"),
    "INT64": ("int64_contents", "q"),
    "UINT8": ("uint_contents", "B"), "UINT16": ("uint_contents", "H"), "UINT32": ("uint_contents", "I"),
    "UINT64": ("uint64_contents", "Q"),
    "FP32": ("fp32_contents", "f"), "FP64": ("fp64_contents", "d"),
}  # fmt: skip
MOST_TEXT = 1024  # bytes of one element of a BYTES tensor


def check_raw(name: str, datatype: str, count: int, raw: bytes) -> None:
    """
    Raises:
        Refusal: the bytes are not exactly `count` elements of the type.
    """
    if datatype == BYTES:
        return _check_texts(name, count, raw)
    needed = count * SIZES[datatype]
    if len(raw) != needed:
        raise bad(f"{name} has {len(raw)} bytes; {count} of {datatype} are {needed}", "bytes")
    return None


def _check_texts(name: str, count: int, raw: bytes) -> None:
    """Triton answers no request of a batch in which one has lengths that do not add up."""
    place = found = 0
    while place < len(raw):
        length = int.from_bytes(raw[place : place + 4], "little")
        place += 4 + length
        found += 1
        if place > len(raw) or found > count:
            break
        if length > MOST_TEXT:
            raise bad(f"{name} has a text of {length} bytes; it may have {MOST_TEXT}", "limit")
    if place != len(raw) or found != count:
        raise bad(f"{name} does not hold {count} texts, each after its length in 4 bytes", "bytes")


def raw_from_typed(name: str, datatype: str, count: int, contents: Message) -> bytes:
    """The bytes of a tensor that was sent as a list of values.

    Raises:
        Refusal: it has another number of values, or values of another type, or one that does not fit in the type.
    """
    field, letter = ("bytes_contents", "") if datatype == BYTES else TYPED.get(datatype, ("", ""))
    others = [found.name for found, _ in contents.ListFields() if found.name != field]
    if others or not field:
        raise bad(f"{name} is {datatype}; its values cannot be in {', '.join(others) or 'contents'}", "type")
    values = getattr(contents, field)
    if len(values) != count:
        raise bad(f"{name} has {len(values)} values; its shape says {count}", "bytes")
    if datatype == BYTES:
        return b"".join(len(value).to_bytes(4, "little") + value for value in values)
    try:
        packed = array(letter, values)
    except OverflowError:
        raise bad(f"{name} has a value that does not fit in {datatype}", "type") from None
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()

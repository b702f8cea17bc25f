"""JSON files: written whole or not at all, and checked when they are read.

JSON has no NaN and no infinity: neither is written, and a file that holds one is refused.
"""

import json
import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from core.errors import UserError, naming
from core.locks import held
from core.partial import partial_file

T = TypeVar("T")
UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")  # pydantic's names of an unknown key
# For every pydantic dataclass that is read from JSON: unknown keys are refused, and what is no finite number.
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all: to a temporary name, then renamed.

    Raises:
        ValueError: it holds a NaN or an infinity, which JSON does not know; nothing is written.
    """
    content = json_bytes(value)
    with naming(path), partial_file(path) as temporary:
        temporary.write_bytes(content)
        os.replace(temporary, path)


def json_bytes(value: Any) -> bytes:
    """What `write_json` writes.

    Raises:
        ValueError: it holds a NaN or an infinity, which JSON does not know.
    """
    return (json.dumps(value, indent=2, sort_keys=False, allow_nan=False) + "\n").encode()


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Waits until no other process holds this file, and holds it: for a file that is read, changed and written.

    What is locked is a file beside it, `.<name>.lock`, which is removed at the end.

    Raises:
        UserError: the folder cannot be written, or `path` is something else than a file.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} cannot be written: it is not a file; choose another name")
    with ExitStack() as stack:
        try:
            stack.enter_context(held(path.with_name(f".{path.name}.lock"), waits=lambda: None))
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}; choose another folder") from None
        yield


def read_json(path: Path, command: str = "the command that writes it") -> Any:
    """Reads JSON.

    Args:
        command: the command line that writes the file, for the message.

    Raises:
        UserError: the file is missing, or is not JSON: NaN, Infinity and numbers beyond float64 are none.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run: {command}") from None
    return parsed_json(content, path, command)


def parsed_json(content: bytes, path: Path, command: str = "the command that writes it") -> Any:
    """JSON that was read already.

    Args:
        path: the file that it was read from, for the message.
        command: the command line that writes the file, for the message.

    Raises:
        UserError: as `read_json`.
    """
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise UserError(f"{path} is not valid JSON ({error}); delete it and run: {command}") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text[:20])


def validated(kind: type[T], value: Any, where: str, command: str = "") -> T:
    """Decoded JSON as a pydantic dataclass, or as any other type that pydantic knows.

    Args:
        kind: the type that it must have.
        where: the file, and the place in it, for the message.
        command: the command line that writes the file again, if one does.

    Raises:
        UserError: an unknown or missing key, or a value of another type; the message names the key and what is allowed.

    >>> validated(list[int], [1, 2], "a.json")
    [1, 2]
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value, allow_nan=False), strict=True)
    except ValueError as error:
        if not isinstance(error, ValidationError):
            path, number = next(_not_finite(value, ()))
            raise UserError(
                f"{where}: {'.'.join(path) or 'the value'} is {number}, which is not a finite number{_again(command)}"
            ) from None
        found = error.errors(include_url=False)
    # A misspelt key is an unknown one and a missing one; the unknown one says more.
    first = next((one for one in found if one["type"] in UNKNOWN), found[0])
    remedy = _again(command)
    place = [str(part) for part in first["loc"]]
    key = ".".join(place) or "the value"
    if first["type"] in UNKNOWN:
        known = ", ".join(_names(kind, place[:-1]))
        raise UserError(f"{where}: {key} is unknown; allowed is: {known or 'nothing'}{remedy}") from None
    if first["type"] in ("missing", "missing_argument"):
        raise UserError(f"{where}: {key} is missing{remedy}") from None
    if first["type"] == "value_error":  # of a check of several values, which names them itself
        raise UserError(f"{where}: {first['ctx']['error']}{remedy}") from None
    wrong = first["msg"][:1].lower() + first["msg"][1:]
    raise UserError(f"{where}: {key} is {json.dumps(first['input'], default=str)[:60]}; {wrong}{remedy}") from None


def _not_finite(value: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every NaN and infinity in decoded JSON, and its place."""
    if isinstance(value, float) and not math.isfinite(value):
        yield place, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, one in inner:
        yield from _not_finite(one, (*place, str(key)))


def _again(command: str) -> str:
    return f"; run again: {command}" if command else ""


def _names(kind: Any, place: list[str]) -> list[str]:
    """The fields of the dataclass at a place within another type."""
    for part in place:
        if is_dataclass(kind) and part in (hints := get_type_hints(kind)):
            kind = hints[part]
        else:  # a list's or a dictionary's element
            kind = next(iter(get_args(kind)[::-1]), None)
    kind = next((one for one in (kind, *get_args(kind)) if is_dataclass(one)), None)
    return [field.name for field in fields(kind)] if kind else []

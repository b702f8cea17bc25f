"""JSON files: written whole or not at all, and checked when they are read."""

import json
import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from core.errors import UserError
from core.partial import partial_file

T = TypeVar("T")
UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")  # pydantic's names of an unknown key
STRICT = ConfigDict(extra="forbid")  # for every pydantic dataclass that is read from JSON: unknown keys are refused


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all: to a temporary name, then renamed."""
    with partial_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)


def read_json(path: Path, command: str = "the command that writes it") -> Any:
    """Reads JSON.

    Args:
        command: the command line that writes the file, for the message.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run: {command}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); delete it and run: {command}") from None


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
        return TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False)
    # A misspelt key is an unknown one and a missing one; the unknown one says more.
    first = next((one for one in found if one["type"] in UNKNOWN), found[0])
    remedy = f"; run again: {command}" if command else ""
    place = [str(part) for part in first["loc"]]
    key = ".".join(place) or "the value"
    if first["type"] in UNKNOWN:
        known = ", ".join(_names(kind, place[:-1]))
        raise UserError(f"{where}: {key} is unknown; allowed is: {known or 'nothing'}{remedy}") from None
    if first["type"] in ("missing", "missing_argument"):
        raise UserError(f"{where}: {key} is missing{remedy}") from None
    wrong = first["msg"][:1].lower() + first["msg"][1:]
    raise UserError(f"{where}: {key} is {json.dumps(first['input'], default=str)[:60]}; {wrong}{remedy}") from None


def _names(kind: Any, place: list[str]) -> list[str]:
    """The fields of the dataclass at a place within another type."""
    for part in place:
        if is_dataclass(kind) and part in (hints := get_type_hints(kind)):
            kind = hints[part]
        else:  # a list's or a dictionary's element
            kind = next(iter(get_args(kind)[::-1]), None)
    kind = next((one for one in (kind, *get_args(kind)) if is_dataclass(one)), None)
    return [field.name for field in fields(kind)] if kind else []

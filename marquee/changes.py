"""Settings that the command line changes: how they are given, and how they are said."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.artifacts import CHECKOUT
from core.errors import UserError


def settings_line(name: str, protocol: str, source: Path, changes: dict[str, Any]) -> str:
    """Where a model's settings come from, in words."""
    place = source.relative_to(CHECKOUT) if source.is_relative_to(CHECKOUT) else source
    line = f"{name}, {protocol}: settings from {place}"
    changed = [f"{key}={value}" for key, value in _flat(changes).items()]
    return f"{line}, with {', '.join(changed)}" if changed else line


def _flat(changes: dict[str, Any], before: str = "") -> dict[str, Any]:
    """`{"network": {"dim": 64}}` as `{"network.dim": 64}`."""
    flat: dict[str, Any] = {}
    for key, value in changes.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{key}.")
        else:
            flat[f"{before}{key}"] = value
    return flat


def setting_changes(pairs: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Changed settings as nested dictionaries, from `--set KEY=VALUE` and from the options of single settings.

    Args:
        pairs: what --set was given: `network.dim=64` sets `dim` in `network`. A value is read as JSON, or is a string
            where it is not JSON.
        options: settings with options of their own, such as `epochs`; None where the option was not given.

    Raises:
        UserError: a pair is not KEY=VALUE, or a setting is given twice.

    >>> setting_changes(["network.dim=64", "schedule=cosine"], {"epochs": 3, "patience": None})
    {'network': {'dim': 64}, 'schedule': 'cosine', 'epochs': 3}
    """
    changes: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        path = [part.strip() for part in key.split(".")]
        if not separator or not all(path):
            raise UserError(f"--set {pair} is not KEY=VALUE; give it as in --set network.dim=64")
        if path == ["seed"]:
            raise UserError(f"--set {pair} changes the seed; use --seed instead")
        _put(changes, path, _value_of(text))
    for name, value in options.items():
        if value is None:
            continue
        if name in changes:
            raise UserError(f"--{name.replace('_', '-')} and --set {name}=... are the same setting; give one of them")
        changes[name] = value
    return changes


def _put(changes: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *outer, last = path
    inner = changes
    for part in outer:
        inner = inner.setdefault(part, {})
        if not isinstance(inner, dict):
            raise UserError(f"--set {'.'.join(path)} is given twice; give each setting once")
    if last in inner:
        raise UserError(f"--set {'.'.join(path)} is given twice; give each setting once")
    inner[last] = value


def _value_of(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text


def _no_constant(name: str) -> Any:
    """NaN and Infinity are not JSON, though Python reads them."""
    raise ValueError(name)

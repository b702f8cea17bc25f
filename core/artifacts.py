"""Folders that are whole or not there: written beside, sealed with a manifest of SHA-256 sums, then renamed."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core import signing
from core.errors import UserError
from core.json_files import read_json, write_json

NAME = "manifest.json"
SIGNATURE = "manifest.sig"
FORMAT = 1


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(**inputs: Any) -> str:
    """SHA-256 of the inputs as canonical JSON: equal inputs, equal fingerprint."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


def source_digest(package: str) -> str:
    """SHA-256 over the source files of one of Marquee's packages, so that changed code is never taken for unchanged."""
    root = Path(__file__).resolve().parent.parent / package
    return fingerprint(**{str(path.relative_to(root)): sha256(path) for path in sorted(root.rglob("*.py"))})


def seal(folder: Path, stage_fingerprint: str, key: Path | None = None, **facts: Any) -> None:
    """Writes `manifest.json`: the fingerprint of what the folder was made from, and the SHA-256 of every file in it.

    Args:
        key: a private key to sign it with.

    Raises:
        UserError: `key` is none.
    """
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in _files(folder)}
    write_json(folder / NAME, {"format": FORMAT, "fingerprint": stage_fingerprint, **facts, "files": files})
    if key:
        signing.sign(folder / NAME, folder / SIGNATURE, key)


def _files(folder: Path) -> list[Path]:
    """All but the manifest and its signature; symbolic links too, as they can lead to files that are not listed."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() or path.is_symlink()]
    return [path for path in files if path not in (folder / NAME, folder / SIGNATURE)]


def verify(folder: Path, made_by: str = "run", public_key: Path | None = None) -> dict[str, Any]:
    """Checks every file of a folder against its manifest, and returns the manifest.

    Args:
        made_by: the command that writes the folder, for the message.
        public_key: of the key that must have signed the manifest; None for no such demand.

    Raises:
        UserError: no manifest, one that is not signed as demanded, or a file that is missing, changed, or not listed;
            the message names it.
    """
    remedy = _remedy(folder, made_by)
    manifest = read_manifest(folder, made_by)
    if public_key:
        signing.check(folder / NAME, folder / SIGNATURE, public_key)
    listed = manifest["files"]
    for name, expected in listed.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is listed in {NAME} and missing; {remedy}")
        if sha256(path) != expected:
            raise UserError(f"{path} has changed since {NAME} was written; {remedy}")
    for path in _files(folder):
        if path.relative_to(folder).as_posix() not in listed:
            raise UserError(f"{path} is not listed in {NAME}; remove it, or {remedy}")
    return manifest


def read_manifest(folder: Path, made_by: str = "run") -> dict[str, Any]:
    """The manifest of a folder, its files unchecked: for what only asks what the folder was made from.

    Raises:
        UserError: there is none, or it is not a manifest.
    """
    if not (folder / NAME).is_file():
        raise UserError(f"{folder} is missing or incomplete; run: python -m marquee {made_by}")
    manifest = read_json(folder / NAME)
    listed = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(listed, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{folder / NAME} is not a manifest; {_remedy(folder, made_by)}")
    return dict(manifest)


def _remedy(folder: Path, made_by: str) -> str:
    return f"delete {folder} and run again: python -m marquee {made_by}"


def is_current(folder: Path, stage_fingerprint: str) -> bool:
    """Whether the folder is whole and was made from the same inputs."""
    try:
        return bool(verify(folder).get("fingerprint") == stage_fingerprint)
    except UserError:
        return False


@contextmanager
def new_folder(folder: Path, stage_fingerprint: str, key: Path | None = None, **facts: Any) -> Iterator[Path]:
    """Gives a temporary folder to fill; on success seals it and puts it in the place of `folder`, else removes it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left_over in folder.parent.glob(f".{folder.name}.partial-*"):  # of a run that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    temporary = folder.parent / f".{folder.name}.partial-{os.getpid()}"
    temporary.mkdir()
    try:
        yield temporary
        seal(temporary, stage_fingerprint, key, **facts)
        old = folder.parent / f".{folder.name}.partial-old-{os.getpid()}"
        if folder.exists():  # moved aside first, as removing it takes longer than two renames
            folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

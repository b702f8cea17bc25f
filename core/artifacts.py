"""Folders that are whole or not there: written beside, sealed with a manifest of SHA-256 sums, then renamed."""

import ast
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from core import signing
from core.errors import UserError
from core.json_files import read_json, write_json
from core.partial import partial_folder, put_in_place, recover

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
FORMAT = 1
ANY_COMMAND = "the command that writes it"
CHECKOUT = Path(__file__).resolve().parent.parent
# Arguments that decide how a result is displayed, not what it is
DISPLAY_ARGUMENTS = {"title", "heading", "question", "position", "help"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
DECIDING = ("torch", "merlin-models", "nvtabular", "numpy")  # the packages whose versions are written beside results


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


def code_digest(rooms: Sequence[str], libraries: Sequence[str], *files: Path) -> str:
    """SHA-256 of the code that computes a stage's result: the result is computed again when it changes, and only then.

    Comments, docstrings, layout and the words that a result is displayed with do not count.

    Args:
        rooms: folders and files of the checkout, such as `models/networks` or `workflows/negatives.py`.
        libraries: installed packages whose versions count.
        files: more sources, from anywhere.

    Raises:
        ValueError: a room has no sources.
    """
    sources = [path for room in rooms for path in _sources(CHECKOUT / room)]
    parts = {path.relative_to(CHECKOUT).as_posix(): _source_digest(path) for path in sources}
    parts |= {path.name: _source_digest(path) for path in files}
    return fingerprint(code=parts, libraries=library_versions(libraries))


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """The installed version of each package; empty where it is not installed."""
    return {name: _library_version(name) for name in names}


def package_versions() -> dict[str, str]:
    """The packages that decide a result, with their versions."""
    return library_versions(DECIDING)


@cache
def _library_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _sources(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = sorted(place.rglob("*.py"))
    if not found:
        raise ValueError(f"{place} has no sources")
    return found


@cache
def _source_digest(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in DISPLAY_ARGUMENTS]
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node):
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def seal(folder: Path, stage_fingerprint: str, key: Path | None = None, **details: Any) -> None:
    """Writes `manifest.json`: the fingerprint of what the folder was made from, and the SHA-256 of every file in it.

    Args:
        key: a private key to sign it with.

    Raises:
        UserError: `key` is not a private key.
    """
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in _files(folder)}
    write_json(folder / MANIFEST, {"format": FORMAT, "fingerprint": stage_fingerprint, **details, "files": files})
    if key:
        signing.sign(folder / MANIFEST, folder / SIGNATURE, key)


def _files(folder: Path) -> list[Path]:
    """All but the manifest and its signature; symbolic links too, as they can lead to files that are not listed."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() or path.is_symlink()]
    return [path for path in files if path not in (folder / MANIFEST, folder / SIGNATURE)]


def verify(folder: Path, command: str = ANY_COMMAND, public_key: Path | None = None) -> dict[str, Any]:
    """Checks every file of a folder against its manifest, and returns the manifest.

    Args:
        command: the command line that writes the folder, for the message.
        public_key: the public key of the required signature; None to accept any manifest.

    Raises:
        UserError: there is no manifest, it lacks the required signature, or a file is missing, changed or not listed;
            the message names the file.
    """
    remedy = _remedy(folder, command)
    manifest = read_manifest(folder, command)
    if public_key:
        signing.check(folder / MANIFEST, folder / SIGNATURE, public_key)
    listed = manifest["files"]
    for name, expected in listed.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is listed in {MANIFEST} and missing; {remedy}")
        if sha256(path) != expected:
            raise UserError(f"{path} has changed since {MANIFEST} was written; {remedy}")
    for path in _files(folder):
        if path.relative_to(folder).as_posix() not in listed:
            raise UserError(f"{path} is not listed in {MANIFEST}; remove it, or {remedy}")
    return manifest


def read_manifest(folder: Path, command: str = ANY_COMMAND) -> dict[str, Any]:
    """The manifest of a folder, without checking the files: for callers that only need the fingerprint.

    Raises:
        UserError: there is no manifest, or the file is not one.
    """
    if not (folder / MANIFEST).is_file():
        recover(_behind_link(folder))
    if not (folder / MANIFEST).is_file():
        raise UserError(f"{folder} is missing or incomplete; run: {command}")
    manifest = read_json(folder / MANIFEST, command)
    listed = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(listed, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{folder / MANIFEST} is not a manifest; {_remedy(folder, command)}")
    return dict(manifest)


def _remedy(folder: Path, command: str) -> str:
    return f"delete {folder} and run again: {command}"


def is_current(folder: Path, stage_fingerprint: str) -> bool:
    """Whether the folder is whole and was made from the same inputs."""
    recover(_behind_link(folder))
    try:
        return bool(verify(folder).get("fingerprint") == stage_fingerprint)
    except UserError:
        return False


@contextmanager
def new_folder(folder: Path, stage_fingerprint: str, key: Path | None = None, **details: Any) -> Iterator[Path]:
    """Gives a temporary folder to fill; on success seals it and puts it in the place of `folder`.

    A failure leaves everything as it was: the temporary folder is removed, and so are the parents made for it. A
    process that is killed at any moment leaves the earlier folder or the new one, whole; what else it leaves is removed
    by the next call, and by `Run.lock`. Where `folder` is a symbolic link, what it leads to is replaced.

    Raises:
        UserError: `key` is not a private key, or `folder` is mounted.
    """
    place = _behind_link(folder)
    missing = missing_folders(place.parent)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        recover(place)
        with partial_folder(place) as temporary:
            yield temporary
            seal(temporary, stage_fingerprint, key, **details)
            put_in_place(temporary, place)
    finally:
        remove_empty(missing)


def _behind_link(folder: Path) -> Path:
    return Path(os.path.realpath(folder)) if folder.is_symlink() else folder


def missing_folders(folder: Path) -> list[Path]:
    """The folder and its parents, as far as they do not exist, the innermost first."""
    return [one for one in (folder, *folder.parents) if not one.exists()]


def remove_empty(folders: Sequence[Path]) -> None:
    """Removes folders, the innermost first, up to the first that is not empty."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()

"""Folders that are whole or not there: written beside, sealed with a manifest of SHA-256 sums, then renamed."""

import ast
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from core import signing
from core.errors import UserError
from core.inner_paths import is_behind_link, is_inner
from core.json_files import json_bytes, parsed_json, write_json
from core.partial import partial_folder, put_in_place, recover

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
FORMAT = 1
DIGEST = re.compile("[0-9a-f]{64}")
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


def seal(
    folder: Path, stage_fingerprint: str, key: Path | None = None, *, kept: Mapping[str, str] = {}, **details: Any
) -> None:
    """Writes `manifest.json`: the fingerprint of what the folder was made from, and the SHA-256 of every file in it.

    Args:
        key: a private key to sign it with.
        kept: the SHA-256 of files that were verified in another folder and taken over from there, by their paths here.

    Raises:
        UserError: `key` is not a private key, or a file is not as it was verified.
    """
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in _files(folder)}
    for name, digest in kept.items():
        if files.get(name) != digest:
            raise UserError(f"{name} in {folder} was changed after it was verified; nothing was written, try again")
    manifest = {"format": FORMAT, "fingerprint": stage_fingerprint, **details, "files": files}
    write_json(folder / MANIFEST, manifest)
    if key:
        (folder / SIGNATURE).write_bytes(signing.sign(json_bytes(manifest), key))


def _files(folder: Path) -> list[Path]:
    """All but the manifest and its signature; symbolic links too, as they can lead to files that are not listed."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() or path.is_symlink()]
    return [path for path in files if path not in (folder / MANIFEST, folder / SIGNATURE)]


def verify(
    folder: Path, command: str = ANY_COMMAND, public_key: Path | None = None, private_key: Path | None = None
) -> dict[str, Any]:
    """Checks every file of a folder against its manifest, and returns the manifest.

    Args:
        command: the command line that writes the folder, for the message.
        public_key, private_key: as of `read_manifest`.

    Raises:
        UserError: as `read_manifest`; or a file is missing, changed, not listed or behind a symbolic link; the message
            names the file.
    """
    remedy = _remedy(folder, command)
    manifest = read_manifest(folder, command, public_key, private_key)
    listed = manifest["files"]
    for name, expected in listed.items():
        path = folder / name
        if is_behind_link(folder, name):
            raise UserError(f"{path} is a symbolic link, or behind one; {remedy}")
        if not path.is_file():
            raise UserError(f"{path} is listed in {MANIFEST} and missing; {remedy}")
        if sha256(path) != expected:
            raise UserError(f"{path} has changed since {MANIFEST} was written; {remedy}")
    for path in _files(folder):
        if path.relative_to(folder).as_posix() not in listed:
            raise UserError(f"{path} is not listed in {MANIFEST}; remove it, or {remedy}")
    return manifest


def read_manifest(
    folder: Path, command: str = ANY_COMMAND, public_key: Path | None = None, private_key: Path | None = None
) -> dict[str, Any]:
    """The manifest of a folder, without checking the files: for callers that only need the fingerprint.

    It is read once: what is returned are the bytes whose signature was checked. Its files' names cannot lead out of
    the folder.

    Args:
        public_key: the public key of the required signature; None to accept any manifest.
        private_key: the private key that must have made the signature; None to accept any.

    Raises:
        UserError: there is no manifest, it lacks the required signature, or the file is not a manifest.
    """
    if not (folder / MANIFEST).is_file():
        recover(_behind_link(folder))
    content, signature = _read(folder, command)
    if public_key:
        signing.check(content, signature, public_key, folder / MANIFEST)
    if private_key and not signing.is_signed(content, signature, private_key):
        raise UserError(
            f"{folder} is not signed with {private_key}; give the key that it is signed with, or export it again"
        )
    manifest = parsed_json(content, folder / MANIFEST, command)
    if not _is_manifest(manifest):
        raise UserError(f"{folder / MANIFEST} is not a manifest; {_remedy(folder, command)}")
    outside = next((name for name in manifest["files"] if not is_inner(name)), None)
    if outside is not None:
        raise UserError(
            f"{folder / MANIFEST} lists {outside!r:.80}, which is not a file of its folder; {_remedy(folder, command)}"
        )
    return dict(manifest)


def _read(folder: Path, command: str) -> tuple[bytes, bytes | None]:
    """The manifest and its signature, None where there is none. Both are of one folder, also while it is replaced."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} is missing or incomplete; run: {command}") from None
    try:
        content, signature = (_content(handle, name) for name in (MANIFEST, SIGNATURE))
    finally:
        os.close(handle)
    if content is None:
        raise UserError(f"{folder} is missing or incomplete; run: {command}")
    return content, signature


def _content(folder: int, name: str) -> bytes | None:
    """The bytes of a file in an open folder; None where there is no such file."""
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=folder).st_mode):
            return None
        with open(name, "rb", opener=lambda path, flags: os.open(path, flags, dir_fd=folder)) as file:
            return file.read()
    except FileNotFoundError:
        return None


def _is_manifest(value: Any) -> bool:
    files = value.get("files") if isinstance(value, dict) else None
    return (
        isinstance(files, dict)
        and value.get("format") == FORMAT
        and isinstance(value.get("fingerprint"), str)
        and all(isinstance(digest, str) and DIGEST.fullmatch(digest) for digest in files.values())
    )


def _remedy(folder: Path, command: str) -> str:
    return f"delete {folder} and run again: {command}"


def is_current(folder: Path, stage_fingerprint: str, private_key: Path | None = None) -> bool:
    """Whether the folder is whole and was made from the same inputs, and signed with a key where one is given."""
    recover(_behind_link(folder))
    try:
        return bool(verify(folder, private_key=private_key).get("fingerprint") == stage_fingerprint)
    except UserError:
        return False


@contextmanager
def new_folder(
    folder: Path, stage_fingerprint: str, key: Path | None = None, *, kept: Mapping[str, str] = {}, **details: Any
) -> Iterator[Path]:
    """Gives a temporary folder to fill; on success seals it and puts it in the place of `folder`.

    A failure leaves everything as it was: the temporary folder is removed, and so are the parents made for it. A
    process that is killed at any moment leaves the earlier folder or the new one, whole; what else it leaves is removed
    by the next call, and by `Run.lock`. Where `folder` is a symbolic link, what it leads to is replaced.

    Args:
        key, kept, details: as of `seal`.

    Raises:
        UserError: as `seal`, or `folder` is mounted.
    """
    place = _behind_link(folder)
    missing = missing_folders(place.parent)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        recover(place)
        with partial_folder(place) as temporary:
            yield temporary
            seal(temporary, stage_fingerprint, key, kept=kept, **details)
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

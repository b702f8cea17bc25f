"""Versions of a repository, side by side: the one that serves, and the one before, for `rollback`.

The manifest names the version that serves, the other one, and what is known of each. Triton reads the same from
`config.pbtxt`; each version has its own, of which the model's is a copy. A repository is replaced as a whole, so nobody
ever sees half a version; what is kept is linked, not copied, where the file system can do that.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.artifacts import MANIFEST, SIGNATURE, new_folder, read_manifest, verify
from core.errors import UserError
from core.signing import is_signed

CONFIG = "config.pbtxt"


def models_of(repository: Path) -> list[str]:
    """The names of a repository's Triton models."""
    return sorted(path.parent.name for path in repository.glob(f"*/{CONFIG}"))


@contextmanager
def new_version(
    repository: Path, made_from: str, key: Path | None, facts: dict[str, Any]
) -> Iterator[tuple[Path, int]]:
    """Gives a folder to put a version's files into, and its number; the one that serves now is kept beside it.

    Args:
        made_from: fingerprint of what the version is made from.
        key: a private key to sign the manifest with, or None. It vouches for what is kept, too, so that is kept only if
            it was signed with the same key.
        facts: what the manifest says of the version.
    """
    served = _whole(repository, key)
    former = served["version"] if served else None
    version = max(_numbers(repository), default=0) + 1
    releases = {str(version): {"fingerprint": made_from, **facts}}
    if served:
        releases[str(former)] = served["releases"][str(former)]
    named = {"version": version, "previous": former, "releases": releases}
    with new_folder(repository, made_from, key, **facts, **named) as out:
        for model in models_of(repository) if served else ():
            if (repository / model / str(former)).is_dir():
                shutil.copytree(repository / model / str(former), out / model / str(former), copy_function=_link)
        yield out, version


def rollback(repository: Path, key: Path | None = None, public_key: Path | None = None) -> dict[str, Any]:
    """Lets the version before serve again; a second rollback takes that back.

    Args:
        key, public_key: to sign the manifest with, and to check the present signature by.

    Returns:
        The manifest.

    Raises:
        UserError: there is no version before, or the repository is not whole, or not signed with either key.
    """
    served = verify(repository, "python -m marquee export", public_key)
    if key and not public_key and not is_signed(repository / MANIFEST, repository / SIGNATURE, key):
        raise UserError(
            f"{repository} is not signed with {key}; name the key that it is signed with, or export it anew"
        )
    if not key and (repository / SIGNATURE).is_file():
        raise UserError(f"{repository} is signed; give its key with --sign-key, or the signature would be lost")
    former, version = served.get("version"), served.get("previous")
    if version is None:
        raise UserError(f"{repository} has no version before {former}; export keeps one when it adds another")
    serving = set(models_of(repository))
    before = {path.parent.parent.name for path in repository.glob(f"*/{version}/{CONFIG}")}
    for model in sorted(serving ^ before):
        without = version if model in serving else former
        raise UserError(f"version {without} in {repository} has no {model}: another Marquee exported it")
    release = dict(served["releases"][str(version)])
    named = {"version": version, "previous": former, "releases": served["releases"]}
    with new_folder(repository, release.pop("fingerprint"), key, **release, **named) as out:
        for model in models_of(repository):
            shutil.copytree(repository / model, out / model, copy_function=_link)
            (out / model / CONFIG).unlink()
            _link(str(out / model / str(version) / CONFIG), str(out / model / CONFIG))
    return read_manifest(repository, "python -m marquee export")


def _whole(repository: Path, key: Path | None) -> dict[str, Any] | None:
    """The manifest of a repository whose serving version is worth keeping."""
    try:
        served = verify(repository, "python -m marquee export")
    except UserError:
        return None
    if key and not is_signed(repository / MANIFEST, repository / SIGNATURE, key):
        return None
    return served if "releases" in served else None


def _numbers(repository: Path) -> list[int]:
    """Of all versions that are there, whole or not: a running server may have loaded any."""
    return [int(path.name) for path in repository.glob("*/*") if path.is_dir() and path.name.isdecimal()]


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)

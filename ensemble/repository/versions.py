"""Versions of a repository, side by side: the one that serves, and the one before, for `rollback`.

The manifest names the version that serves, the other one, and the details of each. Triton reads the same from
`config.pbtxt`; each version has its own, of which the model's is a copy. A repository is replaced as a whole, so that
half a version is never seen; what is kept is linked, not copied, where the file system can do that.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.artifacts import ANY_COMMAND, MANIFEST, SIGNATURE, new_folder, read_manifest, verify
from core.errors import UserError
from core.signing import is_signed
from ensemble.triton_models.files import CONFIG


def models_of(repository: Path) -> list[str]:
    """The names of a repository's Triton models."""
    return sorted(path.parent.name for path in repository.glob(f"*/{CONFIG}"))


@contextmanager
def new_version(
    repository: Path, made_from: str, key: Path | None, details: dict[str, Any]
) -> Iterator[tuple[Path, int]]:
    """Gives a folder to put a version's files into, and its number; the one that serves now is kept beside it.

    Args:
        made_from: fingerprint of what the version is made from.
        key: a private key to sign the manifest with, or None. It covers the version that is kept too, which is
            kept only if it was signed with the same key.
        details: what the manifest says of the version.
    """
    served = _intact(repository, key)
    former = served["version"] if served else None
    version = max(_numbers(repository), default=0) + 1
    releases = {str(version): {"fingerprint": made_from, **details}}
    if served:
        releases[str(former)] = served["releases"][str(former)]
    named = {"version": version, "previous": former, "releases": releases}
    with new_folder(repository, made_from, key, **details, **named) as out:
        kept_models = models_of(repository) if served else []
        for model in kept_models:
            kept = repository / model / str(former)
            if kept.is_dir():
                shutil.copytree(kept, out / model / str(former), copy_function=_link)
        yield out, version


def rollback(
    repository: Path, key: Path | None = None, public_key: Path | None = None, command: str = ANY_COMMAND
) -> dict[str, Any]:
    """Makes the previous version serve again; a second rollback reverts that.

    Args:
        key, public_key: to sign the manifest with, and to check the present signature.
        command: the command line that writes the repository, for the message.

    Returns:
        The manifest.

    Raises:
        UserError: there is no previous version, or the repository is not intact, or not signed with either key.
    """
    served = verify(repository, command, public_key)
    if key and not public_key and not is_signed(repository / MANIFEST, repository / SIGNATURE, key):
        raise UserError(
            f"{repository} is not signed with {key}; give the key that it is signed with, or export it again"
        )
    if not key and (repository / SIGNATURE).is_file():
        raise UserError(f"{repository} is signed; give its key with --sign-key, or the signature would be lost")
    former, version = served.get("version"), served.get("previous")
    if former is None or version is None:
        raise UserError(f"{repository} has no version before {former}; export keeps one when it adds another")
    _check_same_models(repository, former, version)
    release = dict(served["releases"][str(version)])
    named = {"version": version, "previous": former, "releases": served["releases"]}
    with new_folder(repository, release.pop("fingerprint"), key, **release, **named) as out:
        for model in models_of(repository):
            shutil.copytree(repository / model, out / model, copy_function=_link)
            (out / model / CONFIG).unlink()
            _link(str(out / model / str(version) / CONFIG), str(out / model / CONFIG))
    return read_manifest(repository, command)


def _check_same_models(repository: Path, serving: int, other: int) -> None:
    """
    Raises:
        UserError: one of the two versions lacks a model that the other has.
    """
    of_serving = set(models_of(repository))
    of_other = {path.parent.parent.name for path in repository.glob(f"*/{other}/{CONFIG}")}
    for version, missing in ((other, of_serving - of_other), (serving, of_other - of_serving)):
        if missing:
            raise UserError(
                f"version {version} in {repository} has no {min(missing)}: another version of Marquee exported it"
            )


def _intact(repository: Path, key: Path | None) -> dict[str, Any] | None:
    """The manifest of a repository whose serving version can be kept; None where it cannot."""
    try:
        served = verify(repository)
    except UserError:
        return None
    if key and not is_signed(repository / MANIFEST, repository / SIGNATURE, key):
        return None
    return served if "releases" in served else None


def _numbers(repository: Path) -> list[int]:
    """The numbers of all versions that are there, intact or not: a running server may have loaded any."""
    return [int(path.name) for path in repository.glob("*/*") if path.is_dir() and path.name.isdecimal()]


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)

"""Versions of a repository, side by side: the one that serves, and the one before, for `rollback`.

The manifest names the version that serves, the other one, and the details of each, and has a serial number, which
every export and every rollback makes higher. Triton reads the same from
`config.pbtxt`; each version has its own, of which the model's is a copy. A repository is replaced as a whole, so that
half a version is never seen; what is kept is linked, not copied, where the file system can do that.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from core import signing
from core.artifacts import ANY_COMMAND, SIGNATURE, new_folder, read_manifest, verify
from core.errors import UserError
from ensemble.repository.manifest import LARGEST_VERSION, Versions, files_of, next_serial, read_versions
from ensemble.triton_models.files import CONFIG, MODEL_CARD, MODEL_CARD_IN_FRONT, OF_ALL


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

    Raises:
        UserError: `key` is not a private key, or a file of the version that is kept was changed at this moment.
    """
    if key:
        signing.private_key(key)
    served = _intact(repository, key)
    former = served[1].version if served else None
    version = max(_numbers(repository), default=0) + 1
    releases = {str(version): {"fingerprint": made_from, **details}}
    if served:
        releases[str(former)] = served[1].details(served[1].version, repository)
    named = {
        "version": version,
        "previous": former,
        "serial": next_serial(_serial(repository, key)),
        "releases": releases,
    }
    kept = files_of(served[0], former) if served else {}
    with new_folder(repository, made_from, key, kept=kept, **details, **named) as out:
        for name in kept:
            _link(repository / name, out / name)
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
    served = verify(repository, command, public_key, None if public_key else key)
    if not key and (repository / SIGNATURE).is_file():
        raise UserError(f"{repository} is signed; give its key with --sign-key, or the signature would be lost")
    now = read_versions(served, repository, command)
    former, version = now.version, now.previous
    if version is None:
        raise UserError(f"{repository} has no version before {former}; export keeps one when it adds another")
    releases = {str(number): now.details(number, repository, command) for number in (former, version)}
    _check_same_models(repository, served, former, version)
    release = dict(releases[str(version)])
    named = {
        "version": version,
        "previous": former,
        "serial": next_serial(now.serial),
        "releases": releases,
    }
    kept = files_of(served, former, version)
    put = {name: name for name in kept} | _in_front(served, version)
    sums = {target: kept[source] for target, source in put.items()}
    with new_folder(repository, release.pop("fingerprint"), key, kept=sums, **release, **named) as out:
        for target, source in put.items():
            _link(repository / source, out / target)
    return read_manifest(repository, command)


def _in_front(manifest: dict[str, Any], version: int) -> dict[str, str]:
    """What of a version's files has a copy outside of its folder, for Triton and for readers: target and source."""
    copies = {f"{model}/{CONFIG}": f"{model}/{version}/{CONFIG}" for model in _models_of(manifest, version)}
    copies[MODEL_CARD_IN_FRONT] = f"{OF_ALL}/{version}/{MODEL_CARD}"
    return {target: source for target, source in copies.items() if source in manifest["files"]}


def _models_of(manifest: dict[str, Any], version: int) -> set[str]:
    """The models that a manifest lists for a version."""
    found = (PurePosixPath(name).parts for name in files_of(manifest, version))
    return {parts[0] for parts in found if parts[1:] == (str(version), CONFIG)}


def _check_same_models(repository: Path, manifest: dict[str, Any], serving: int, other: int) -> None:
    """
    Raises:
        UserError: one of the two versions lacks a model that the other has.
    """
    of_serving, of_other = (_models_of(manifest, version) for version in (serving, other))
    for version, missing in ((other, of_serving - of_other), (serving, of_other - of_serving)):
        if missing:
            raise UserError(
                f"version {version} in {repository} has no {min(missing)}: another version of Marquee exported it"
            )


def _intact(repository: Path, key: Path | None) -> tuple[dict[str, Any], Versions] | None:
    """The manifest of a repository whose serving version can be kept, and its versions; None where it cannot."""
    try:
        manifest = verify(repository, private_key=key)
        versions = read_versions(manifest, repository)
        versions.details(versions.version, repository)
    except UserError:
        return None
    return manifest, versions


def _serial(repository: Path, key: Path | None) -> int:
    """The serial number of a manifest, whether its files are intact or not; 0 where there is none that counts."""
    try:
        return read_versions(read_manifest(repository, private_key=key), repository).serial
    except UserError:
        return 0


def _numbers(repository: Path) -> list[int]:
    """The numbers of all versions that are there, intact or not: a running server may have loaded any."""
    names = [path.name for path in repository.glob("*/*") if path.is_dir()]
    return [int(name) for name in names if name.isdecimal() and len(name) < len(str(LARGEST_VERSION))]


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)

"""Releases: private copies of what a repository serves, and how Triton is switched from one to the next."""

import compileall
import os
import py_compile
import shutil
from dataclasses import dataclass
from pathlib import Path

from core.artifacts import ANY_COMMAND, sha256, verify
from core.errors import UserError
from ensemble.repository.manifest import files_of, models_in, read_versions
from ensemble.repository.serials import Serials
from ensemble.triton_models.files import CONFIG


@dataclass(frozen=True)
class Release:
    """One version of all models, in a folder that is not changed any more.

    Attributes:
        version: of every model.
        models: their names.
        folder: `<model>/config.pbtxt` and `<model>/<version>/`, for each.
        files: SHA-256 of each file that was copied, by its path in the folder.
    """

    version: int
    models: tuple[str, ...]
    folder: Path
    files: dict[str, str]

    def same_as(self, other: "Release") -> bool:
        """Whether both hold the same files."""
        return self.version == other.version and self.files == other.files


def take(
    repository: Path,
    folder: Path,
    public_key: Path | None = None,
    command: str = ANY_COMMAND,
    serials: Serials | None = None,
) -> Release:
    """Copies what a repository serves.

    Args:
        repository: an exported repository, verified first.
        folder: a new folder.
        public_key: of the key that must have signed the manifest; None for no such demand.
        command: the command line that writes the repository, for the message.
        serials: of this repository and key; None to accept older ones than were served before.

    Raises:
        UserError: the repository was changed, before or while it was copied, is not signed as demanded, is older than
            what was served before, or does not name a version.
    """
    manifest = verify(repository, command, public_key)
    named = read_versions(manifest, repository, command)
    if serials:
        serials.check(named.serial)
    version, models = named.version, models_in(manifest, repository)
    if not models:
        raise UserError(f"{repository} has no models to serve; run: {command}")
    configs = {name: manifest["files"][name] for name in (f"{model}/{CONFIG}" for model in models)}
    files = configs | files_of(manifest, version)
    for name, digest in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(repository / name, target)
        if sha256(target) != digest:
            raise UserError(f"{repository / name} changed while it was copied; serve again")
    for model in models:
        if not (folder / model / str(version)).is_dir():
            raise UserError(f"{repository / model} has no version {version}; run: {command}")
    if serials:
        serials.record(named.serial)
    # Python inside Triton would write its bytecode beside the models, which Triton's poller would take for a change.
    compileall.compile_dir(folder, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    return Release(version, models, folder, files)


def lay_out(release: Release, served: Path) -> None:
    """Makes `served` a repository of this release alone, of hard links, as no one writes there."""
    shutil.rmtree(served, ignore_errors=True)
    shutil.copytree(release.folder, served, copy_function=os.link)


def install(release: Release, served: Path, keep: tuple[int, ...]) -> None:
    """Puts a release beside the version that a running Triton serves; it then loads this one, and drops the other.

    Every step is a rename. Their order is such that Triton always finds something to serve.

    Args:
        keep: versions whose files stay as they are, including the one that answers now.
    """
    aside = served.with_name(f"{served.name}-aside")
    lay_out(release, aside)
    for path in list(served.iterdir()):
        if path.name not in release.models:
            path.rename(aside / f"dropped-{path.name}")
    for model in release.models:
        if not (served / model).is_dir():
            (aside / model).rename(served / model)
            continue
        for path in list((served / model).iterdir()):
            if path.is_dir() and int(path.name) not in keep:
                path.rename(aside / f"dropped-{model}-{path.name}")
        version = served / model / str(release.version)
        if not version.is_dir():
            (aside / model / version.name).rename(version)
        (aside / model / CONFIG).replace(served / model / CONFIG)
    shutil.rmtree(aside)


def touch(served: Path, model: str, version: int) -> None:
    """Makes a running Triton load a model again; the loaded one answers until then."""
    os.utime(served / model / str(version))

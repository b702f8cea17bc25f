"""The places that a dataset's files can be had from, and downloads that are checked before they are kept."""

import hashlib
import http.client
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import IO, Protocol

from core.errors import UserError
from core.locks import Held, held
from core.progress import progress

GROUPLENS = "https://files.grouplens.org/datasets/movielens"
TIMEOUT = 15  # seconds without a byte
# The names that synth gives
LIKE_RELEASE = re.compile(r"synth-(?P<like>ml-(?:[0-9]+m|latest-small)|netflix)(?:-(?P<scale>[0-9.e-]+))?")
PIP_SECONDS = 300  # that pip may take for a package


def download_lock(home: Path, name: str) -> Path:
    """The lock file that is held while a dataset is downloaded."""
    return home / f".{name}.lock"


def clear_partial(home: Path, name: str) -> None:
    """Removes what killed processes left of a dataset's download, unless another process downloads it now."""
    if home.is_dir() and any(_left_over(home, name)):
        with suppress(Held, OSError), held(download_lock(home, name)):
            for path in _left_over(home, name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _left_over(home: Path, name: str) -> list[Path]:
    """What is not whole, or was meant for it."""
    beginnings = tuple(f".{whole}.partial" for whole in (name, f"{name}.zip"))
    return [path for path in home.iterdir() if path.name.startswith(beginnings)]


def _partial(home: Path, name: str) -> Path:
    """A folder for what is not whole yet; only the holder of the lock writes there."""
    return home / f".{name}.partial"


class Unreachable(Exception):
    """A source that cannot be reached; it says why. The next source is tried."""


class Source(Protocol):
    """A place that a dataset's files can be had from."""

    @property
    def label(self) -> str:
        """What messages call it."""

    @property
    def address(self) -> str:
        """Where it is, for the message that it cannot be reached."""

    def obtain(self, name: str, home: Path, is_raw: Callable[[str], bool]) -> Path:
        """Puts the files into `home`, whole or not at all. The caller holds the dataset's `download_lock`.

        Args:
            name: of the dataset; a folder or zip in `home` of this name is found again by the next fetch.
            is_raw: whether a file of that name is part of a dataset.

        Returns:
            The folder or zip with the files.

        Raises:
            Unreachable: it cannot be reached.
            UserError: it was reached, and what it gave is not the dataset.
        """


@dataclass(frozen=True)
class ZipDownload:
    """A zip on the web.

    Attributes:
        md5: the published sum of the zip; None where the publisher replaces the zip in place, and keeps a file with the
            sum, `<url>.md5`, beside it.
    """

    url: str
    _: KW_ONLY
    label: str
    md5: str | None = None

    @property
    def address(self) -> str:
        return self.url

    def obtain(self, name: str, home: Path, is_raw: Callable[[str], bool]) -> Path:
        """The zip, checked against its published MD5, kept in `home` as `<name>.zip`."""
        final = home / f"{name}.zip"
        with _unfinished(home, name) as folder:
            try:
                expected = self.md5 or self._published_md5()
                found = self._download(folder / final.name, final.name)
            except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
                raise Unreachable(str(getattr(error, "reason", error))) from None
            if found != expected:
                raise UserError(f"{self.url} arrived with MD5 {found}, not {expected}; try again later")
            os.replace(folder / final.name, final)
        return final

    def _published_md5(self) -> str:
        with urllib.request.urlopen(f"{self.url}.md5", timeout=TIMEOUT) as reply:
            words = reply.read(1000).decode(errors="replace").split()
        for word in words:
            if len(word) == 32:
                return str(word)
        raise UserError(f"{self.url}.md5 holds no MD5 sum; try again later, or pass the zip with --data")

    def _download(self, path: Path, title: str) -> str:
        """Writes the zip to `path` and returns its MD5."""
        digest = hashlib.md5(usedforsecurity=False)
        with urllib.request.urlopen(self.url, timeout=TIMEOUT) as reply, open(path, "wb") as file:
            length = reply.headers.get("Content-Length") or ""
            size = int(length) if length.isdecimal() else None
            with progress(title, size, "bytes") as advance:
                while chunk := reply.read(1 << 18):
                    digest.update(chunk)
                    _write(file, chunk, path.parent)
                    advance(len(chunk), "")
        return digest.hexdigest()


@contextmanager
def _unfinished(home: Path, name: str) -> Iterator[Path]:
    """An empty folder for what is not whole yet, removed at the end."""
    partial = _partial(home, name)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(file: IO[bytes], chunk: bytes, folder: Path) -> None:
    """Writes to a file in a folder, which the message names where the disk is full: the network is not to blame."""
    try:
        file.write(chunk)
    except OSError as error:
        raise UserError(f"cannot write to {folder.parent}: {error.strerror}; make room there") from None


def grouplens(name: str, md5: str | None = None) -> ZipDownload:
    """GroupLens' zip of a MovieLens release."""
    return ZipDownload(f"{GROUPLENS}/{name}.zip", label="GroupLens", md5=md5)


@dataclass(frozen=True)
class WheelFolder:
    """A folder inside a Python package on the package registry. The package itself is not installed.

    Attributes:
        requirement: the package with its version, `recbole==1.2.1`.
        folder: the folder within its wheel, ending in a slash.
        sha256: of the wheel, as the package registry publishes it.
    """

    requirement: str
    folder: str
    _: KW_ONLY
    sha256: str

    @property
    def label(self) -> str:
        return f"the {self.requirement} wheel"

    @property
    def address(self) -> str:
        return self.label

    def obtain(self, name: str, home: Path, is_raw: Callable[[str], bool]) -> Path:
        """The raw files out of the wheel, kept in `home` in the folder `<name>`."""
        final = home / name
        with _unfinished(home, name) as partial, tempfile.TemporaryDirectory(prefix="wheel-", dir=partial) as folder:
            files = partial / "files"
            files.mkdir()
            with zipfile.ZipFile(self._download(Path(folder))) as wheel:
                for member in wheel.namelist():
                    if member.startswith(self.folder) and is_raw(Path(member).name):
                        (files / Path(member).name).write_bytes(wheel.read(member))
            files.rename(final)
        return final

    def _download(self, folder: Path) -> Path:
        """The wheel, downloaded by pip, which compares its hash."""
        listed = folder / "requirements.txt"
        listed.write_text(f"{self.requirement} --hash=sha256:{self.sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input", "--only-binary=:all:"]
        command += ["--require-hashes", "--dest", str(folder), "--requirement", str(listed)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS)
        except subprocess.TimeoutExpired:
            raise Unreachable(f"pip download did not end in {PIP_SECONDS} s") from None
        if "DO NOT MATCH THE HASHES" in result.stderr:
            raise UserError(
                f"{self.label} arrived with another SHA-256 than {self.sha256}; check the package index that pip uses, "
                "or download the dataset elsewhere and pass it with --data"
            )
        wheels = [path for path in folder.iterdir() if path.suffix == ".whl"]
        if result.returncode or not wheels:
            raise Unreachable((result.stderr.strip().splitlines() or ["pip gave no reason"])[-1])
        return wheels[0]


@dataclass(frozen=True)
class MadeBySynth:
    """The command `synth`, which the user runs."""

    label = address = "marquee synth"

    def obtain(self, name: str, home: Path, is_raw: Callable[[str], bool]) -> Path:
        release = LIKE_RELEASE.fullmatch(name)
        options = f"--like {release['like']}" if release else f"--out {shlex.quote(str(home / name))}"
        options += f" --scale {release['scale']}" if release and release["scale"] else ""
        raise UserError(
            f"{home / name} does not exist; make it with: python -m marquee synth {options}, or give --data"
        )

"""The places that a dataset's files can be had from, and downloads that are checked before they are kept."""

import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Protocol

from core.errors import UserError
from core.progress import progress

GROUPLENS = "https://files.grouplens.org/datasets/movielens"
TIMEOUT = 15  # seconds without a byte


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
        """Puts the files into `home`, whole or not at all.

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
        home.mkdir(parents=True, exist_ok=True)
        final = home / f"{name}.zip"
        partial = final.with_name(f".{final.name}.partial-{os.getpid()}")
        try:
            expected = self.md5 or self._published_md5()
            found = self._download(partial, final.name)
            if found != expected:
                raise UserError(f"{self.url} arrived with MD5 {found}, not {expected}; try again later")
            os.replace(partial, final)
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise Unreachable(str(getattr(error, "reason", error))) from None
        finally:
            partial.unlink(missing_ok=True)
        return final

    def _published_md5(self) -> str:
        with urllib.request.urlopen(f"{self.url}.md5", timeout=TIMEOUT) as reply:
            words = reply.read(1000).decode().split()
        for word in words:
            if len(word) == 32:
                return str(word)
        raise UserError(f"{self.url}.md5 holds no MD5 sum; try again later, or pass the zip with --data")

    def _download(self, path: Path, title: str) -> str:
        """Writes the zip to `path` and returns its MD5."""
        digest = hashlib.md5(usedforsecurity=False)
        with urllib.request.urlopen(self.url, timeout=TIMEOUT) as reply, open(path, "wb") as file:
            size = int(reply.headers.get("Content-Length") or 0) or None
            with progress(title, size, "bytes") as advance:
                while chunk := reply.read(1 << 18):
                    digest.update(chunk)
                    file.write(chunk)
                    advance(len(chunk), "")
        return digest.hexdigest()


def grouplens(name: str, md5: str | None = None) -> ZipDownload:
    """GroupLens' zip of a MovieLens release."""
    return ZipDownload(f"{GROUPLENS}/{name}.zip", label="GroupLens", md5=md5)


@dataclass(frozen=True)
class WheelFolder:
    """A folder inside a Python package on the package registry. The package itself is not installed.

    Attributes:
        requirement: the package with its version, `recbole==1.2.1`.
        folder: the folder within its wheel, ending in a slash.
    """

    requirement: str
    folder: str

    @property
    def label(self) -> str:
        return f"the {self.requirement} wheel"

    @property
    def address(self) -> str:
        return self.label

    def obtain(self, name: str, home: Path, is_raw: Callable[[str], bool]) -> Path:
        """The raw files out of the wheel, kept in `home` in the folder `<name>`."""
        final = home / name
        partial = final.with_name(f".{final.name}.partial-{os.getpid()}")
        with tempfile.TemporaryDirectory(prefix="marquee-wheel-") as temporary:
            wheel_file = self._download(Path(temporary))
            partial.mkdir(parents=True)
            try:
                with zipfile.ZipFile(wheel_file) as wheel:
                    for member in wheel.namelist():
                        if member.startswith(self.folder) and is_raw(Path(member).name):
                            (partial / Path(member).name).write_bytes(wheel.read(member))
                partial.rename(final)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return final

    def _download(self, folder: Path) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
        result = subprocess.run([*command, self.requirement], capture_output=True, text=True)
        wheels = list(folder.glob("*.whl"))
        if result.returncode or not wheels:
            raise Unreachable((result.stderr.strip().splitlines() or ["pip gave no reason"])[-1])
        return wheels[0]


@dataclass(frozen=True)
class MadeBySynth:
    """The command `synth`, which the user runs."""

    label = address = "marquee synth"

    def obtain(self, name: str, home: Path, is_raw: Callable[[str], bool]) -> Path:
        raise UserError(f"{home / name} does not exist; make it with: python -m marquee synth, or give --data")

"""Compressed files and archives, read member by member: only what is wanted, and never more than a bound."""

import bz2
import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from core.errors import UserError

# MovieLens' text shrinks to a third or a quarter, and the largest release is 0.9 GB
ALLOWANCE = 100_000_000  # bytes that any archive may unpack to
RATIO = 50  # times its own size that a larger one may unpack to
LARGEST = 20_000_000_000  # bytes that no archive may unpack to
CHUNK = 1 << 20
COMPRESSED: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
MAGIC = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
BROKEN = (  # what the libraries raise for bytes that are not what they should be
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)


@dataclass(frozen=True)
class Member:
    """A regular file within a place.

    Attributes:
        path: within the place, separated by slashes.
        entry: what the archive calls it.
    """

    path: PurePosixPath
    entry: str


class Archive(Protocol):
    """An archive on disk."""

    @property
    def path(self) -> Path:
        """Where it is."""

    def members(self) -> list[Member]:
        """Its regular files, in its order; links, devices and folders are left out."""

    def unpack(self, wanted: Mapping[Path, Member]) -> None:
        """Writes members to the paths that they are given by.

        Raises:
            UserError: the archive is damaged, encrypted, or unpacks to more than its bound.
        """


def archive_at(path: Path) -> Archive | None:
    """The archive of that path, by its content whatever its name; None where it is none."""
    with open(path, "rb") as file:
        head = file.read(TAR_MAGIC_AT + len(TAR_MAGIC))
    if head.startswith(b"PK"):
        return Zip(path)
    if head[TAR_MAGIC_AT:] == TAR_MAGIC or any(head.startswith(magic) for magic in MAGIC):
        return Tar(path)
    return None


class Bound:
    """Counts what an archive unpacks to, and refuses more than a whole release can be."""

    def __init__(self, archive: Path):
        self._archive, self._size, self._spent = archive, archive.stat().st_size, 0
        self._limit = min(LARGEST, max(ALLOWANCE, RATIO * self._size))

    def expect(self, sizes: Mapping[str, int], folder: Path) -> None:
        """
        Args:
            sizes: what the archive says that its members unpack to, in bytes.
            folder: where they will be written.

        Raises:
            UserError: it is too much, for the bound or for the disk.
        """
        total = sum(sizes.values())
        largest = max(sizes, key=lambda name: sizes[name], default="")
        if total > self._limit:
            self._refuse(largest, f"{total:,} bytes")
        free = shutil.disk_usage(folder).free
        if total > free:
            raise UserError(
                f"{self._archive} unpacks to {total:,} bytes, and {folder.parent} has {free:,} left; "
                "make room there, or set TMPDIR to another folder"
            )

    def spend(self, size: int, member: str) -> None:
        """
        Raises:
            UserError: with `size` bytes more it is more than the bound.
        """
        self._spent += size
        if self._spent > self._limit:
            self._refuse(member, f"more than {self._limit:,} bytes")

    def _refuse(self, member: str, found: str) -> None:
        raise UserError(
            f"{self._archive} ({self._size:,} bytes): {member} unpacks to {found}, where at most {self._limit:,} are "
            "expected; if you trust it, unpack it yourself and give the folder with --data"
        )


def decompress(source: Path, target: Path) -> None:
    """Writes the content of a file that is compressed as the end of its name says.

    Raises:
        UserError: it is damaged, or unpacks to more than its bound.
    """
    bound = Bound(source)
    with _damage_named(source, source.suffix.lstrip(".")), COMPRESSED[source.suffix](source, "rb") as file:
        _copy(file, target, bound, source.name)


@dataclass(frozen=True)
class Zip:
    """A zip file."""

    path: Path

    def members(self) -> list[Member]:
        with self._opened() as file:
            return [Member(_path(info.filename), info.filename) for info in file.infolist() if _is_regular(info)]

    def unpack(self, wanted: Mapping[Path, Member]) -> None:
        bound = Bound(self.path)
        with self._opened() as file:
            infos = {target: file.getinfo(member.entry) for target, member in wanted.items()}
            for info in infos.values():
                if info.flag_bits & 1:
                    raise UserError(f"{self.path} is encrypted; unpack it yourself and give the folder with --data")
            bound.expect({info.filename: info.file_size for info in infos.values()}, next(iter(wanted)).parent)
            for target, info in infos.items():
                with file.open(info) as content:
                    _copy(content, target, bound, info.filename)

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        with _damage_named(self.path, "zip"), zipfile.ZipFile(self.path) as file:
            yield file


@dataclass(frozen=True)
class Tar:
    """A tar file, as it is or compressed with gzip, bzip2 or xz."""

    path: Path

    def members(self) -> list[Member]:
        with self._opened() as file:
            return [Member(_path(info.name), info.name) for info in file if info.isreg()]

    def unpack(self, wanted: Mapping[Path, Member]) -> None:
        targets = {member.entry: target for target, member in wanted.items()}
        bound = Bound(self.path)
        with self._opened() as file:
            for info in file:  # in its order, as compressed bytes can only be read forwards
                content = file.extractfile(info) if info.isreg() and info.name in targets else None
                if content:
                    target = targets[info.name]
                    bound.expect({info.name: info.size}, target.parent)
                    _copy(content, target, bound, info.name)

    @contextmanager
    def _opened(self) -> Iterator[tarfile.TarFile]:
        """The tar file. Whatever is decompressed on the way to a member counts, too."""
        with open(self.path, "rb") as file:
            head = file.read(8)
        opener: Any = next((opener for magic, opener in MAGIC.items() if head.startswith(magic)), open)
        with _damage_named(self.path, "tar"), opener(self.path, "rb") as content:
            counted = _Counted(content, Bound(self.path))
            with tarfile.open(fileobj=counted, mode="r|", errorlevel=2) as file:  # type: ignore[call-overload]
                yield file
            while counted.read(CHUNK):  # to its end, where the checksum of what was read is
                pass


@dataclass(frozen=True)
class _Counted:
    """A stream that is read forwards, within a bound."""

    content: IO[bytes]
    bound: Bound

    def read(self, size: int) -> bytes:
        chunk = self.content.read(size)
        self.bound.spend(len(chunk), "its content")
        return chunk


def _copy(source: IO[bytes], target: Path, bound: Bound, member: str) -> None:
    """Copies a stream to a new file."""
    with open(target, "xb") as out:
        while chunk := source.read(CHUNK):
            bound.spend(len(chunk), member)
            try:
                out.write(chunk)
            except OSError as error:  # no space left, which does not say where
                raise UserError(f"cannot write to {target.parent}: {error.strerror}; make room there") from None


def _path(name: str) -> PurePosixPath:
    """A member's path, of an archive made on Windows too; absolute ones and `./` as if they were relative."""
    return PurePosixPath(*[part for part in name.replace("\\", "/").split("/") if part not in ("", ".")])


def _is_regular(info: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(info.external_attr >> 16)
    return not info.is_dir() and kind in (0, stat.S_IFREG)


@contextmanager
def _damage_named(path: Path, kind: str) -> Iterator[None]:
    """Names the file that is damaged."""
    try:
        yield
    except BROKEN as error:
        reason = str(error)
    except OSError as error:
        if error.filename is not None:
            raise
        reason = str(error)
    else:
        return
    raise UserError(f"{path} is not a whole {kind} file ({reason}); copy or download it again")

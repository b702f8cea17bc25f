"""Files at an address such as s3://bucket/ml-25m.zip, by fsspec: copied once, and again where they have changed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from core.artifacts import fingerprint, is_current, new_folder
from core.errors import UserError, one_line
from core.locks import held
from core.progress import progress
from workflows.sources.datasets import data_home

COPIES = "remote"  # in $MARQUEE_DATA
FILES = "files"
CHUNK = 1 << 20
DEEPEST = 3  # folders, the one that is given included


def is_remote(text: str) -> bool:
    """Whether it is an address, and no path."""
    return "://" in text


def name_at(address: str) -> str:
    """The name of a file or folder at an address."""
    return address.rstrip("/").rpartition("/")[2]


def local_copy(address: str, home: Path, is_wanted: Callable[[str], bool], say: Callable[[str], None]) -> Path:
    """A copy of a file, or of a folder's files, in `home`; the one that is there where nothing has changed since.

    Whether something has changed is for the file system to say: by size and time of change, or what it has for them.
    Who may read is for its own settings, such as AWS_ACCESS_KEY_ID or GOOGLE_APPLICATION_CREDENTIALS.

    Args:
        home: where copies are kept, each in a folder of its own.
        is_wanted: whether a folder's file of that name is copied.
        say: is given a line where another process copies it at the moment.

    Raises:
        UserError: nothing is there, it cannot be read, or the package for such addresses is not installed.
    """
    with _errors_of(address):
        system, place = _system(address)
        is_folder = bool(system.isdir(place))
        found = _below(system, place, is_wanted) if is_folder else {name_at(place): place}
        if not found:
            raise UserError(f"{address} holds no file that can be read")
        sizes = {path: int(system.size(path) or 0) for path in found.values()}
        version = fingerprint(address=address, files={name: system.ukey(path) for name, path in found.items()})
    folder = home / COPIES / fingerprint(address=address)[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with held(folder.with_suffix(".lock"), lambda: say(f"another marquee process copies {address}; waiting for it")):
        if not is_current(folder, version):
            with (
                new_folder(folder, version, address=address) as out,
                progress(name_at(address), sum(sizes.values()), "bytes") as advance,
            ):
                for name, path in found.items():
                    _copy(address, system, path, out / FILES / name, lambda done: advance(done, ""))
    return folder / FILES if is_folder else folder / FILES / name_at(place)


def at_hand(text: str, is_wanted: Callable[[str], bool], say: Callable[[str], None]) -> Path:
    """A path, or the copy of what is at an address; arguments and errors as of `local_copy`."""
    return local_copy(text, data_home(), is_wanted, say) if is_remote(text) else Path(text)


def _system(address: str) -> tuple[Any, str]:
    """fsspec's file system, and the place in it."""
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    try:
        system, place = url_to_fs(address)
    except (ImportError, ValueError) as error:  # no package for it, or no such kind of address
        raise UserError(f"{address} cannot be read: {one_line(error)}") from None
    return system, place


def _below(system: Any, place: str, is_wanted: Callable[[str], bool]) -> dict[str, str]:
    """The wanted files of a folder, each by its path within it."""
    root = PurePosixPath(place)
    paths = sorted(system.find(place, maxdepth=DEEPEST))
    return {str(PurePosixPath(path).relative_to(root)): path for path in paths if is_wanted(PurePosixPath(path).name)}


def _copy(address: str, system: Any, path: str, target: Path, advance: Callable[[int], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _errors_of(address):
        source = system.open(path, "rb")
    with source, open(target, "wb") as file:
        while True:
            with _errors_of(address):
                chunk = source.read(CHUNK)
            if not chunk:
                return
            file.write(chunk)
            advance(len(chunk))


@contextmanager
def _errors_of(address: str) -> Iterator[None]:
    """Each kind of storage has exceptions of its own.

    Raises:
        UserError: there was one.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{address} does not exist") from None
    except Exception as error:
        raise UserError(f"{address} cannot be read: {one_line(error)}") from None

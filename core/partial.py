"""Partial files and folders beside what they will replace, and what a killed process leaves of them.

One is held by a lock of the kernel while it is written, so that nothing that a live process needs is taken for a
leftover. A process that is killed at any moment, also by SIGKILL, loses nothing that was whole. A power failure may:
nothing is synchronised with the disk.
"""

import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from core.errors import UserError
from core.locks import names

OLD = "old-"  # in the name of what was moved aside by its replacement
PARTIAL = re.compile(rf"\.(?P<name>.+?)\.partial-(?P<old>{OLD})?(?P<pid>\d+)(-[0-9a-f]+)?", re.DOTALL)
LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
RENAME_EXCHANGE = 2
CANNOT_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)  # network file systems, older kernels
OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)  # why a folder cannot simply be renamed
ELSEWHERE = (errno.EXDEV, errno.EBUSY)


def partial_name(path: Path, old: str = "") -> Path:
    """A new hidden name beside `path`, on the same file system."""
    return path.with_name(f".{path.name}.partial-{old}{os.getpid()}-{secrets.token_hex(4)}")


@contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, held by this process; whatever lies under its name at the end is removed."""
    with _partial(path, lambda folder: folder.mkdir(exist_ok=True)) as folder:
        yield folder


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """A new file beside `path`, held by this process; it is removed at the end where it still has its name."""
    recover(path)
    with _partial(path, lambda file: os.close(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))) as file:
        yield file


@contextmanager
def _partial(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new name beside `path`, at which `make` makes something that this process then holds."""
    new = partial_name(path)
    handle = None
    try:
        while handle is None:  # until it was held before another process took it for a leftover
            make(new)
            handle = _held(new)
        yield new
    finally:
        remove(new)
        if handle is not None:
            os.close(handle)


def put_in_place(new: Path, place: Path) -> None:
    """Renames a folder to `place`. What was there is then at `new`, or removed.

    Where the file system can exchange two names, there is no moment without a whole folder at `place`. Elsewhere what
    is there is moved aside first, and moved back by this process or by the next call of `recover`.

    Raises:
        UserError: `place` is a file system of its own.
    """
    try:
        _put_in_place(new, place)
    except OSError as error:
        if error.errno not in ELSEWHERE:
            raise
        raise UserError(
            f"{place} cannot be replaced, as it is mounted or part of a container's image; mount {place.parent} instead"
        ) from None


def _put_in_place(new: Path, place: Path) -> None:
    try:
        return os.rename(new, place)
    except OSError as error:
        if error.errno not in OCCUPIED:
            raise
    if exchange(new, place):
        return None
    handle = _held(place)
    old = partial_name(place, OLD)
    try:
        os.rename(place, old)
        os.rename(new, place)
    except BaseException:
        with suppress(OSError):  # it was not moved yet, or its replacement is there
            os.rename(old, place)
        raise
    finally:
        with suppress(OSError):  # where it was not moved back
            garbage = partial_name(place)
            os.rename(old, garbage)  # a name that is never moved back, as it is about to lose its files
            remove(garbage)
        if handle is not None:
            os.close(handle)
    return None


def exchange(one: Path, other: Path) -> bool:
    """Exchanges two names at once. Returns whether this system and the file system can do that.

    Raises:
        OSError: they can, but one of the names does not exist or cannot be changed.
    """
    if not hasattr(LIBC, "renameat2"):
        return False
    if not LIBC.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE):
        return True
    code = ctypes.get_errno()
    if code in CANNOT_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


def recover(place: Path) -> None:
    """Moves back to `place` what a killed process had moved aside, then removes its leftovers beside `place`."""
    _recover(place.parent, place.name)


def recover_all(folder: Path) -> None:
    """`recover` for every file and folder under a folder."""
    for inner, folders, _ in os.walk(folder):
        _recover(Path(inner), None)
        folders[:] = [name for name in folders if not PARTIAL.fullmatch(name)]


def _recover(parent: Path, wanted: str | None) -> None:
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        found = [(match, parent / match[0]) for match in map(PARTIAL.fullmatch, os.listdir(parent)) if match]
        ours = [(match, path) for match, path in found if wanted in (None, match["name"])]
        for match, path in sorted(ours, key=lambda one: not one[0]["old"]):  # before anything is removed
            with _unheld(path, int(match["pid"])) as is_free:
                if not is_free:
                    continue
                if match["old"] and not os.path.lexists(parent / match["name"]):
                    with suppress(OSError):  # another process was faster, or the folder cannot be written
                        os.rename(path, parent / match["name"])
                else:
                    remove(path)


def remove(path: Path) -> None:
    """Removes a file, a link or a folder with all that is in it, as far as it can be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _held(path: Path) -> int | None:
    """An open handle that holds `path`; None where it is gone. Without locks in the file system it holds nothing."""
    try:
        handle = _opened(path)
    except FileNotFoundError:
        return None
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX)
    if names(path, handle):
        return handle
    os.close(handle)
    return None


@contextmanager
def _unheld(path: Path, pid: int) -> Iterator[bool]:
    """Whether no process holds `path`; none can while the block runs.

    Args:
        pid: of the process that made it, which decides where the file system has no locks.
    """
    try:
        handle = _opened(path)
    except OSError:  # it is gone, another user's, or a link, as earlier versions moved a linked folder aside
        yield path.is_symlink()
        return
    try:
        yield _is_free(path, handle, pid)
    finally:
        os.close(handle)


def _is_free(path: Path, handle: int, pid: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return not psutil.pid_exists(pid)
    return names(path, handle)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)

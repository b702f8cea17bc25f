"""Ends what a server leaves: `python reaper.py PID FOLDER` waits until that process is gone, then kills its group.

The temporary folder that it served from is removed too, where no process holds it (`core.temporary`) because the one
that made it was killed.

A script of its own, started beside each server, as nothing in the process that started the server can act when that is
killed. Triton's Python processes wait for their server for ever where it ends while they start.
"""

import fcntl
import os
import select
import shutil
import signal
import sys
import time
from contextlib import suppress

GRACE = 5.0  # seconds in which the group may end by itself
POLL = 0.1
HELD = ".held"  # the end of the names of folders that processes hold


def reap(leader: int) -> None:
    """Waits for the end of a process that leads a group, then for the group's, which it kills after a grace.

    Raises:
        OSError: the system has no file handles for processes (Linux before 5.3).
    """
    with suppress(ProcessLookupError):  # it has ended already
        handle = os.pidfd_open(leader)
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        ended.poll()
    deadline = time.monotonic() + GRACE
    with suppress(ProcessLookupError):  # nothing of the group is left
        while time.monotonic() < deadline:
            os.killpg(leader, 0)
            time.sleep(POLL)
        os.killpg(leader, signal.SIGKILL)


def clear(folder: str) -> None:
    """Removes a temporary folder that no process holds, and no other folder.

    Raises:
        OSError: one does, or it is gone already.
    """
    if not folder.endswith(HELD):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


if __name__ == "__main__":
    if os.fork():  # what started it need not wait for it
        os._exit(0)
    with suppress(OSError):
        reap(int(sys.argv[1]))
        clear(sys.argv[2])

"""Children that do not outlive their parent."""

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)  # loaded here, as a child of a process with threads must not take locks


def ending_with_parent(ended_by: signal.Signals) -> Callable[[], None]:
    """For `preexec_fn`: has Linux send a signal to the child when the thread that started it ends."""
    parent = os.getpid()
    return lambda: end_with(parent, ended_by)


def end_with(parent: int, ended_by: signal.Signals) -> None:
    """In a child: has Linux send it a signal when the thread that started it ends.

    Args:
        parent: its process id. Where that has ended already, the child ends now.
    """
    LIBC.prctl(PR_SET_PDEATHSIG, ended_by)
    if os.getppid() != parent:
        os._exit(1)

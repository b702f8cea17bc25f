"""Waits for the end of processes."""

import os
import select
import time
from collections.abc import Iterable
from contextlib import suppress


def wait_for_an_end(pids: Iterable[int], seconds: float) -> None:
    """Returns as soon as one of these processes has ended, at the latest after so many seconds.

    Where the system has no handles for processes (Linux before 5.3) it always takes that long.
    """
    ended, handles = select.poll(), []
    try:
        for pid in pids:
            with suppress(ProcessLookupError):  # it was reaped already
                handles.append(os.pidfd_open(pid))
                ended.register(handles[-1], select.POLLIN)
        ended.poll(max(0.0, seconds) * 1000)
    except OSError:
        time.sleep(max(0.0, seconds))
    finally:
        for handle in handles:
            os.close(handle)

"""Where NVTabular's work runs when one process is not enough: a Dask cluster, started here or elsewhere."""

import logging
import os
import re
import threading
import time
from asyncio import CancelledError
from collections.abc import Iterator
from concurrent.futures import CancelledError as FutureCancelledError
from contextlib import ExitStack, contextmanager, suppress

from core.gpu import HAS_CUDF

from distributed import Client
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker

from core.errors import UserError
from core.progress import error_console
from workflows.shipped_code import ship_code

LOCAL = "local"
CONNECT_SECONDS = 15
WARN_SECONDS = 5  # without a worker, before it is said
WORKERLESS_SECONDS = 120  # without a worker, before the work is given up
ADDRESS = re.compile(r"(tcp://)?(\[[^\]\s]+\]|[^\[\]:/\s]+):\d{1,5}")
POLL_SECONDS = 0.5
# Dask and Merlin log tracebacks of lost workers, which mean nothing to a user; what fails in the end is raised.
CHATTY = ("distributed", "merlin", "nvtabular", "tornado.application", "asyncio")
CANCELLED = (CancelledError, FutureCancelledError)


@contextmanager
def dask_cluster(scheduler: str) -> Iterator[Client]:
    """Makes NVTabular work on a Dask cluster for as long as the context lasts.

    When a worker dies, nothing is lost: another one repeats its tasks, and every task writes a file of its own, whole.

    Args:
        scheduler: `local` starts a `LocalCluster` with a process per core, or a `LocalCUDACluster` with one per GPU;
            else the address of a scheduler whose workers have the same packages installed and see the same files under
            the same paths. They are given this checkout's code.

    Raises:
        UserError: there is no scheduler at the address, it has no workers, it or all of its workers end while it works,
            or a worker does not find a file.
    """
    if scheduler != LOCAL and not ADDRESS.fullmatch(scheduler):
        raise UserError(f"{scheduler!r} is not a Dask scheduler's address; give tcp://host:port, or `local`")
    with ExitStack() as stack:
        stack.enter_context(_silence())
        if scheduler == LOCAL:
            client = stack.enter_context(Client(stack.enter_context(_local_cluster())))
        else:
            client = _connect(scheduler)
            stack.callback(_leave, client)
            if not client.scheduler_info()["workers"]:
                raise UserError(f"the Dask scheduler at {scheduler} has no workers; {_start_workers(scheduler)}")
        from merlin.core.utils import Distributed

        with _one_line(scheduler, client) as watch:
            if scheduler != LOCAL:
                ship_code(client)
            watch.start()
            with Distributed(client=client):
                yield client


def _connect(scheduler: str) -> Client:
    try:
        return Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Dask scheduler answers at {scheduler} ({error}); give tcp://host:port, or `local`"
        ) from None


def _leave(client: Client) -> None:
    """Closes a client whose scheduler may be gone."""
    with suppress(*CANCELLED, OSError, TimeoutError, RuntimeError):
        client.close(timeout=CONNECT_SECONDS)


@contextmanager
def _silence() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in CHATTY]
    # Loggers below a chatty one may have a level of their own.
    loggers += [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("distributed.")]
    levels = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)


class _Watch(threading.Thread):
    """Says when no worker is there, and closes the client when none has come for long: what waits for it then ends.

    Attributes:
        given_up: whether the client was closed for want of workers.
    """

    def __init__(self, client: Client, scheduler: str):
        super().__init__(daemon=True, name="dask-watch")
        self.client, self.scheduler = client, scheduler
        self.given_up = False
        self._over = threading.Event()

    def run(self) -> None:
        seen, warned = time.monotonic(), False
        while not self._over.wait(POLL_SECONDS):
            try:
                workers = self.client.scheduler_info()["workers"]
            except (*CANCELLED, OSError, TimeoutError, RuntimeError, ValueError):
                continue  # the scheduler is gone, of which the caller that waits for a result hears
            alone = time.monotonic() - seen
            if workers:
                seen, warned = time.monotonic(), False
            elif alone > WORKERLESS_SECONDS:
                self.given_up = True
                _leave(self.client)
                return
            elif alone > WARN_SECONDS and not warned:
                warned = True
                error_console.print(
                    f"warning: the Dask cluster has no workers left; waiting {WORKERLESS_SECONDS} s for another",
                    soft_wrap=True,
                )

    def end(self) -> None:
        self._over.set()


@contextmanager
def _one_line(scheduler: str, client: Client) -> Iterator[_Watch]:
    """What ends the work on a cluster, in one line."""
    watch = _Watch(client, scheduler)
    try:
        yield watch
    except KilledWorker as error:
        raise UserError(
            f"Dask gave up a task after {error.allowed_failures + 1} workers died with it; give the workers more memory"
        ) from None
    except ModuleNotFoundError as error:
        raise UserError(
            f"a Dask worker or the scheduler has no module {error.name!r}; start them in an environment like this one"
        ) from None
    except FileNotFoundError as error:
        if not error.filename or not os.path.exists(error.filename):
            raise
        raise UserError(
            f"a Dask worker does not find {error.filename}; workers must see the same files under the same paths"
        ) from None
    except (*CANCELLED, OSError, TimeoutError, RuntimeError) as error:
        if watch.given_up:
            raise UserError(
                f"no Dask worker was there for {WORKERLESS_SECONDS} s; {_start_workers(scheduler)}"
            ) from None
        if isinstance(error, (*CANCELLED, CommClosedError)) or client.status != "running":
            raise UserError(f"the Dask scheduler at {scheduler} ended while it was needed; start it again") from None
        raise
    finally:
        watch.end()


def _start_workers(scheduler: str) -> str:
    return "run this again" if scheduler == LOCAL else f"start some with: dask worker {scheduler}"


def _local_cluster():  # type: ignore[no-untyped-def]
    if HAS_CUDF:
        from dask_cuda import LocalCUDACluster

        return LocalCUDACluster(dashboard_address=None)
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=os.cpu_count(),
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
    )

"""Where NVTabular's work runs when one process is not enough: a Dask cluster, started here or elsewhere."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from distributed import Client
from merlin.core.dispatch import HAS_GPU
from merlin.core.utils import Distributed

from core.errors import UserError

LOCAL = "local"
CONNECT_SECONDS = 15
ADDRESS = re.compile(r"(tcp://)?(\[[^\]\s]+\]|[^\[\]:/\s]+):\d{1,5}")


@contextmanager
def dask_cluster(scheduler: str) -> Iterator[Client]:
    """Makes NVTabular work on a Dask cluster for as long as the context lasts.

    When a worker dies, nothing is lost: another one repeats its tasks, and every task writes a file of its own, whole.

    Args:
        scheduler: `local` starts a `LocalCluster` with a process per core, or a `LocalCUDACluster` with one per GPU;
            else the address of a scheduler whose workers see the same files under the same paths and were started in
            this checkout.

    Raises:
        UserError: there is no scheduler at the address, or it has no workers.
    """
    if scheduler != LOCAL and not ADDRESS.fullmatch(scheduler):
        raise UserError(f"{scheduler!r} is not a Dask scheduler's address; give tcp://host:port, or `local`")
    # Dask logs tracebacks of lost workers, which mean nothing to a user; what fails in the end is raised in any case.
    for name in ("distributed.worker", "distributed.nanny", "distributed.scheduler", "distributed.core"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        if scheduler == LOCAL:
            client = stack.enter_context(Client(stack.enter_context(_local_cluster())))
        else:
            try:
                client = stack.enter_context(Client(scheduler, timeout=CONNECT_SECONDS))
            except (OSError, ValueError) as error:
                raise UserError(
                    f"no Dask scheduler answers at {scheduler} ({error}); give tcp://host:port, or `local`"
                ) from None
            if not client.scheduler_info()["workers"]:
                raise UserError(f"the Dask scheduler at {scheduler} has no workers; start some with: dask worker")
        stack.enter_context(Distributed(client=client))
        yield client


def _local_cluster():  # type: ignore[no-untyped-def]
    if HAS_GPU:
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

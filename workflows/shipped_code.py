"""This checkout's code for a Dask cluster that was started anywhere: what its tasks import is what is here."""

import hashlib
import io
import os
import socket
import zipfile

from distributed import Client
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin

from core.artifacts import CHECKOUT

SHIPPED = ("core", "workflows")  # what tasks import


def ship_code(client: Client) -> None:
    """Makes `core` and `workflows` of this checkout importable by the scheduler and by every worker, later ones too.

    Neither needs to be started in a checkout. A worker that worked for another checkout, or for an older state of this
    one, imports them again.
    """
    archive = _archive()
    name = f"marquee-{hashlib.sha256(archive).hexdigest()[:16]}"
    scheduler_plugin, worker_plugin = _plugins(archive, name, SHIPPED)
    client.sync(client.register_scheduler_plugin, scheduler_plugin, name=name)
    client.register_worker_plugin(worker_plugin, name=name)


def _archive() -> bytes:
    """The Python files as a zip, the same bytes for the same files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in SHIPPED:
            for path in sorted((CHECKOUT / package).rglob("*.py")):
                archive.writestr(zipfile.ZipInfo(path.relative_to(CHECKOUT).as_posix()), path.read_bytes())
    return content.getvalue()


def _plugins(archive: bytes, name: str, packages: tuple[str, ...]) -> tuple[SchedulerPlugin, WorkerPlugin]:
    """Plugins that unpack the archive where a node keeps its files, and import from there.

    Their classes are defined here, inside a function, so that they travel whole: a node cannot import this module yet.
    """

    here = socket.gethostname(), os.getpid()

    def install(folder: str) -> None:
        import importlib
        import io
        import os
        import socket
        import sys
        import zipfile

        code = os.path.join(folder, name)
        if code in sys.path or (socket.gethostname(), os.getpid()) == here:  # a cluster may be inside this process
            return
        with zipfile.ZipFile(io.BytesIO(archive)) as content:
            content.extractall(code)
        sys.path.insert(0, code)
        for module in [one for one in sys.modules if one.partition(".")[0] in packages]:
            del sys.modules[module]
        importlib.invalidate_caches()
        importlib.import_module("core.gpu")  # settles where Merlin's data frames are, before a task imports Merlin

    class OnScheduler(SchedulerPlugin):
        async def start(self, scheduler):  # type: ignore[no-untyped-def]
            install(scheduler.local_directory)

    class OnWorker(WorkerPlugin):
        def setup(self, worker):  # type: ignore[no-untyped-def]
            install(worker.local_directory)

    return OnScheduler(), OnWorker()

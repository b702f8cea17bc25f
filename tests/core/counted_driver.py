"""A pytest plugin: the NVIDIA driver counts a device, as on a machine that has a driver and no cuDF.

It is loaded before Merlin is imported: `pytest -p tests.core.counted_driver`.
"""

from dask.distributed.diagnostics import nvml


def count() -> int:
    return 1


nvml.device_get_count = count

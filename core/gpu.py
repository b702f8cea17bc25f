"""Whether Merlin's data frames are on the GPU: decided here, once, before Merlin reads its own answer.

Merlin's `HAS_GPU` says that the NVIDIA driver counts a device; it does not ask for cuDF. Where there is a driver and no
cuDF, Merlin would mix pandas with what only cuDF's frames can do, start CUDA workers, and refuse a TensorFlow that was
built for the CPU. There it must work as on a machine without a GPU. PyTorch is not affected: it decides for itself.

What imports Merlin or NVTabular imports this module first, or is in a package whose `__init__` does.
"""

import os
import sys

from merlin.core import has_gpu

# Dask's own switch for counting devices, which is what Merlin asks. Processes that are started from here inherit it.
COUNT_DEVICES = "DASK_DISTRIBUTED__DIAGNOSTICS__NVML"


def _cudf_works() -> bool:
    """Whether everything can be imported that Merlin uses on a GPU."""
    try:
        import cudf  # noqa: F401
        import cupy  # noqa: F401
        import dask_cudf  # noqa: F401
    except Exception:  # a release for another driver does not fail with ImportError only
        return False
    return True


def _keep_merlin_on_the_cpu() -> None:
    """Corrects Merlin's answer: where it is defined, and in modules that were imported before this one."""
    os.environ[COUNT_DEVICES] = "False"
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("merlin", "nvtabular") and getattr(module, "HAS_GPU", False) is True:
            module.HAS_GPU = False  # type: ignore[attr-defined]


HAS_CUDF: bool = bool(has_gpu.HAS_GPU) and _cudf_works()
if has_gpu.HAS_GPU and not HAS_CUDF:
    _keep_merlin_on_the_cpu()
DATA_FRAMES = "cuDF, on the GPU" if HAS_CUDF else "pandas, on the CPU"

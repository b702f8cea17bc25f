"""Arrays and networks from files."""

from pathlib import Path

import numpy as np
import onnxruntime


def load_array(path: Path) -> np.ndarray:
    """An array in NumPy's format, read-only and mapped into memory, so that processes share it."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file by name, in memory."""
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def load_network(path: Path) -> onnxruntime.InferenceSession:
    """An ONNX network that runs on one thread: processes that each take all cores compete for them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

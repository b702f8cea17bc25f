"""Libraries that say what no user can change, made silent."""

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Before they are imported."""
    # Merlin, and PyTorch as Merlin uses it, warn about things that no user can change.
    warnings.filterwarnings("ignore", module=r"(merlin|nvtabular|torch|dask|tensorflow|pytorch_lightning)(\.|$)")
    # Merlin logs what it raises, Ctrl-C included, with a traceback of its own.
    logging.getLogger("merlin").setLevel(logging.CRITICAL)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Merlin imports TensorFlow where it is installed

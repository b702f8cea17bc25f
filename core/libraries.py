"""How the libraries behave in our commands: silent about what no user can change, and without TensorFlow."""

import logging
import os
import sys
import warnings


def quiet_libraries() -> None:
    """Before they are imported."""
    # Merlin, and PyTorch as Merlin uses it, warn about things that no user can change.
    warnings.filterwarnings("ignore", module=r"(merlin|nvtabular|torch|dask|tensorflow|pytorch_lightning)(\.|$)")
    # Merlin logs what it raises, Ctrl-C included, with a traceback of its own.
    logging.getLogger("merlin").setLevel(logging.CRITICAL)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # of a module that Merlin imports by its old name
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # where Merlin imports TensorFlow


def leave_out_tensorflow() -> None:
    """Before Merlin is imported, in a process of our own: Merlin imports TensorFlow wherever that is installed.

    No command computes with it, and it takes two fifths of the time and memory of that import. A later `import
    tensorflow` in this process fails as if it were not installed, which Merlin allows for.
    """
    sys.modules.setdefault("tensorflow", None)  # type: ignore[arg-type]


def set_up_libraries() -> None:
    """Both, at the start of a process that a command starts."""
    quiet_libraries()
    leave_out_tensorflow()

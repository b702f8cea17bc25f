"""What a model is trained on: device, precision, threads."""

import os
from pathlib import Path
from typing import Literal

import torch

from core.errors import UserError

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "float32", "bfloat16")
Precision = Literal["float32", "bfloat16"]
LARGE_BATCH = 8_192  # samples, from where on a second thread gains


def pick_device(wanted: str) -> torch.device:
    """`auto` (a GPU where there is one), `cpu` or `cuda`.

    Raises:
        UserError: another name, or cuda where there is no GPU.
    """
    if wanted not in DEVICES:
        raise UserError(f"unknown device {wanted!r}; choose auto, cpu or cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA GPU can be used by this PyTorch; choose --device cpu, or install its CUDA build")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def pick_precision(wanted: str, device: torch.device) -> Precision:
    """`float32` or `bfloat16`, which `auto` takes where the device multiplies it natively.

    Raises:
        UserError: another name.
    """
    if wanted == "float32":
        return "float32"
    if wanted == "bfloat16":
        return "bfloat16"
    if wanted != "auto":
        raise UserError(f"unknown precision {wanted!r}; choose one of {', '.join(PRECISIONS)}")
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = any(flag in _cpu_flags() for flag in ("avx512_bf16", "amx_bf16"))
    return "bfloat16" if native else "float32"


def device_name(device: torch.device) -> str:
    """The hardware in words."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {os.cpu_count()} cores"


def hardware_name(device: torch.device) -> str:
    """The GPU, or the processor and its cores, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpuinfo('model name') or 'CPU'}, {os.cpu_count()} cores"


def threads_for(batch_size: int) -> int:
    """How many threads make a step fastest: at small batches they wait for each other longer than they work."""
    return (os.cpu_count() or 1) if batch_size >= LARGE_BATCH else 1


def _cpu_flags() -> set[str]:
    return set(_cpuinfo("flags").split())


def _cpuinfo(key: str) -> str:
    """What the first processor says of itself in `/proc/cpuinfo`; '' where it says nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")

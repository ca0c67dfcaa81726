"""Which device a job runs on, what it is called, and how much memory it took."""

import ctypes
import platform
import resource
import sys
from typing import Any

import torch

from esp_core.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # what glibc's mallopt sets


def pick(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" takes cuda, then mps, then cpu. Raises UserError where it is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device: {name} is asked for, but torch {torch.__version__} sees no CUDA device; use auto or cpu")
    return device


def describe(device: torch.device) -> dict[str, Any]:
    """Name, torch version and thread count, as every artefact records them."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"device": f"{device.type}: {name}", "torch": torch.__version__, "threads": torch.get_num_threads()}


def peak_memory(device: torch.device) -> int:
    """Bytes: the allocator's peak on CUDA, the peak resident size of the process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that a clock read afterwards is true."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reuse_memory() -> None:
    """For jobs on a CPU, before their first tensors: keep freed memory for the next tensors. Without glibc, nothing happens.

    By default every large tensor is a new mapping of the system, and its page faults cost as much as the work in it: eager training
    of ConvNet-3 is 1.6 times as fast with this, and the process holds its peak memory until it ends.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)

"""Which device a job runs on, its name, and the memory it used."""

import ctypes
import os
import platform
import resource
import sys
from functools import cache
from typing import Any

import torch

from esp_core.runtime import leases
from esp_core.runtime.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # parameters of glibc's mallopt
LEAST_FREE = 2**30  # bytes: CUDA's context and the workspaces of its libraries take about half of it

_mine: set[int] = set()  # CUDA devices that this process has leased


def pick(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" takes cuda, then mps, then cpu.

    A CUDA device is leased until the process ends if several are visible or ESP_GPU_SHARE limits sharing.
    Raises UserError if the device does not exist or has no memory free.
    """
    if name == "auto":
        mps = "mps" if torch.backends.mps.is_available() else "cpu"
        name = "cuda" if torch.cuda.is_available() else mps
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
            seen = f"sees {torch.cuda.device_count() or 'no'} CUDA device(s)"
            raise UserError(f"device: {name} is asked for, but torch {torch.__version__} {seen}; use auto or cpu")
        device = _leased(device)
        _check_memory(device)
        _set_arithmetic()
    _announce(device)
    return device


def _leased(device: torch.device) -> torch.device:
    """The CUDA device that this process may use. The first call waits for one; later calls return the same."""
    wanted = range(torch.cuda.device_count()) if device.index is None else [device.index]
    if torch.cuda.device_count() == 1 and leases.SHARE not in os.environ:
        return device
    if not _mine.intersection(wanted):
        # By serial number, which does not depend on CUDA_VISIBLE_DEVICES, the container or the cluster job.
        found = [torch.cuda.get_device_properties(i) for i in wanted]
        lease = leases.take([str(properties.uuid) for properties in found], share := leases.share())
        index = wanted[lease.index]
        print(f"leased cuda:{index}, {lease.device}, slot {lease.slot + 1} of {share}", flush=True)
        torch.cuda.set_device(index)
        _mine.add(index)
    return torch.device("cuda", min(_mine.intersection(wanted)))


def _check_memory(device: torch.device) -> None:
    """Raise UserError if less than `LEAST_FREE` of the device is free; memory reserved by this process counts as free."""
    free, total = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device)
    if free < LEAST_FREE:
        has = f"{torch.cuda.get_device_name(device)} has {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        way_on = f"end what else runs there, hide it with CUDA_VISIBLE_DEVICES, or lower {leases.SHARE}"
        raise UserError(f"device: {has}, and a job needs at least {LEAST_FREE / 2**30:.0f}; {way_on}")


def _set_arithmetic() -> None:
    """Make sums reproducible, and set float32 on CUDA: TF32 in convolutions, full precision in matrix products, as Eq. 5 needs."""
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False


@cache
def _announce(device: torch.device) -> None:
    """Log the device, once."""
    found = describe(device)
    print(f"device {found['device']}, threads of the processor: {found['threads']}", file=sys.stderr, flush=True)


def describe(device: torch.device) -> dict[str, Any]:
    """Name, torch version and thread count, recorded in every artefact."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"device": f"{device.type}: {name}", "torch": torch.__version__, "threads": torch.get_num_threads()}


def arithmetic(precision: str, device: torch.device) -> str:
    """`precision` as recorded in every artefact: on CUDA, float32 includes TF32 convolutions, see `_set_arithmetic`."""
    return "float32, TF32 in convolutions" if device.type == "cuda" and precision == "float32" else precision


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16 products. Without them a CPU is ten times slower than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11 may lack it
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return False


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: the allocator's on CUDA, else the peak resident size of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that a clock read afterwards includes its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reuse_memory() -> None:
    """On a CPU, keep freed memory for the next tensors. Call before creating tensors; does nothing without glibc.

    By default every large tensor is a new memory mapping, and its page faults cost as much as the work on it. With this, eager training
    of ConvNet-3 is 1.6 times as fast, but the process holds its peak memory until it ends.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)

"""Whether compiling pays, given the work and the device, and whether a compiler is available.

`compiles` decides for distillation and its teachers; `worth_compiling` for experts and evaluations, batch size by batch size.
"""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch.utils.flop_counter import FlopCounterMode

from esp_core.runtime.errors import UserError

COMPILE = ("auto", "always", "never")
TRAINING = 3  # cost of a forward and a backward pass, in forward passes
# Floating-point operations of a distillation. One CPU core runs them eagerly in minutes and compiles in less than one; an H100 needs 20 to
# 50 s for either, and a compiled step takes half the time.
WORTH_COMPILING = {"cpu": 2e13, "mps": 2e13, "cuda": 4e14}
# The same of a training. Compiled, it takes only 3 to 7 % less time on an H100, which pays for 20 to 30 s of compilation from here on
# (docs/benchmarks.md). Eager code also gives the same bits in every process.
TRAINING_WORTH_COMPILING = {**WORTH_COMPILING, "cuda": 1e16}
FORWARD = 0.25  # time to compile the forward pass alone, as a fraction of that for both passes
ODD = 0.1  # of TRAINING_WORTH_COMPILING, for a batch of odd size beside a compiled one: channels_last is slow in torch's own code


@dataclass(frozen=True)
class Work:
    """The work of a training. `trained`: number of images by batch size, over all epochs; `tested`: number of test images."""

    trained: Mapping[int, int]
    tested: int = 0


def worth_compiling(device: str, forward: float, work: Work, batch_norm: bool) -> tuple[tuple[int, ...], bool]:
    """The batch sizes that pay for their compilation, and whether the test pass does, on a device of type cpu, mps or cuda.

    forward: floating-point operations of a forward pass of one image. batch_norm: whether the network has batch norm; on a CPU such a
    network is as fast without compilation.
    """
    if device == "cpu" and batch_norm:
        return (), False
    least = TRAINING_WORTH_COMPILING[device]
    amounts = {size: TRAINING * forward * images for size, images in work.trained.items()}
    bar = least * (ODD if max(amounts.values()) >= least else 1)
    return tuple(size for size, amount in amounts.items() if amount >= bar), forward * work.tested >= FORWARD * least


def compiles(wanted: str, work: float, device: torch.device, obstacle: str, title: str) -> bool:
    """Whether to compile a job of `work` floating-point operations: as `wanted` (one of `COMPILE`) says, if no `obstacle` is named.

    Raises UserError, beginning with `title`, if compilation is required but impossible; if it would only pay, prints the obstacle.
    """
    if wanted == "always" and obstacle:
        raise UserError(f"{title}: compile: always, but {obstacle}; use auto")
    chosen = wanted == "always" or (wanted == "auto" and work >= WORTH_COMPILING[device.type])
    if chosen and obstacle:
        print(f"not compiled: {obstacle}", file=sys.stderr, flush=True)
    return chosen and not obstacle


def compile_in_own_threads() -> None:
    """Call before the first compilation: use as many compile threads as the job has threads; torch's default is one per core."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(torch.get_num_threads()))


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of the products in `work`, counted by running it once."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def missing_compiler(device: torch.device) -> str:
    """What torch.compile lacks on this machine; empty if nothing."""
    if device.type == "mps":
        return "torch.compile is not used on mps"
    if device.type == "cuda" and find_spec("triton") is None:
        return "triton is not installed"
    name = os.environ.get("CXX", "g++") if device.type == "cpu" else os.environ.get("CC", "gcc")
    return "" if shutil.which(name) else f"there is no compiler {name}"

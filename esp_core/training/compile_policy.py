"""Whether code is worth compiling here: what it computes, and what the machine has to compile with."""

import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch.utils.flop_counter import FlopCounterMode

from esp_core.runtime.errors import UserError

COMPILE = ("auto", "always", "never")
TRAINING = 3  # forward passes that a forward and a backward pass take
# Floating-point operations in all: on a core minutes of eager work, against less than one to compile; on an H100, where compiling takes
# 20 to 50 s, about as long eagerly. There a step of distillation takes half of that compiled, an evaluation all but 3 to 7 %
# (docs/benchmarks.md).
WORTH_COMPILING = {"cpu": 2e13, "mps": 2e13, "cuda": 4e14}


def compiles(wanted: str, work: float, device: torch.device, obstacle: str, title: str) -> bool:
    """Whether to compile what does `work` floating-point operations in all, as `wanted`, one of `COMPILE`, says, where no `obstacle` is.

    Raises UserError, beginning with `title`, where it has to be compiled and cannot; where it would only pay, a line says why it is not.
    """
    if wanted == "always" and obstacle:
        raise UserError(f"{title}: compile: always, but {obstacle}; use auto")
    chosen = wanted == "always" or (wanted == "auto" and work >= WORTH_COMPILING[device.type])
    if chosen and obstacle:
        print(f"not compiled: {obstacle}", file=sys.stderr, flush=True)
    return chosen and not obstacle


def compile_in_own_threads() -> None:
    """Before the first compilation: as many compilers at once as the job has threads, where torch starts one for each core."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(torch.get_num_threads()))


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of `work`, products alone, which is run once."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def missing_compiler(device: torch.device) -> str:
    """What torch.compile lacks here; empty where it lacks nothing."""
    if device.type == "mps":
        return "torch.compile is not used on mps"
    if device.type == "cuda" and find_spec("triton") is None:
        return "triton is not installed"
    name = os.environ.get("CXX", "g++") if device.type == "cpu" else os.environ.get("CC", "gcc")
    return "" if shutil.which(name) else f"there is no compiler {name}"

"""How experts and evaluations are trained fast on the device at hand: precision, memory format, compilation.

The choice depends on the network, the work and the kind of device, never on the shard or on how much an interrupted job still has to do,
so the same job always gives the same numbers. The thresholds below were measured with `python -m benchmarks.evaluation`.
"""

import sys
import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from esp_core.runtime.devices import has_fast_bfloat16
from esp_core.runtime.errors import UserError
from esp_core.training.compile_policy import (
    COMPILE,
    TRAINING,
    Work,
    compile_in_own_threads,
    missing_compiler,
    operations,
    worth_compiling,
)
from esp_core.training.tiled_convolution import tile_convolutions

PRECISIONS = ("auto", "float32", "bfloat16")
FINE = 5e8  # operations a step; below this, bfloat16 is no faster on a CPU
TEST_BATCH = 500  # images of a forward pass without gradients


@dataclass(frozen=True)
class Plan:
    """How a network is trained, with `notes` that say why.

    `compiled`: batch sizes that are compiled; `tests`: whether the test pass is compiled; `tiled`: see `tiled_convolution`.
    """

    precision: str = "float32"
    compiled: tuple[int, ...] = ()
    tests: bool = False
    channels_last: bool = False
    tiled: bool = False
    notes: tuple[str, ...] = field(default=(), compare=False)

    def record(self) -> dict[str, object]:
        """The entries that a shard or a row records."""
        return {"precision": self.precision, "compiled": [*self.compiled], "channels_last": self.channels_last, "tiled": self.tiled}


def plan(network: nn.Module, image: Tensor, work: Work, precision: str, compile_: str = "auto", *, section: str = "experts") -> Plan:
    """The plan for training `network` on images such as `image` (1, C, H, W).

    Raises UserError, naming a key of `section`, for an unknown precision or compile setting, or one that is impossible here.
    """
    device = image.device
    for key, value, known in (("precision", precision, PRECISIONS), ("compile", compile_, COMPILE)):
        if value not in known:
            raise UserError(f"{section}.{key}: {value} is unknown; use one of {', '.join(known)}")
    forward = _operations(network, image)
    sizes, tests, reason = _compiled(network, device, work, forward, compile_, section)
    step = TRAINING * forward * max(work.trained)
    chosen, why = (precision, "as asked") if precision != "auto" else _precision(network, device, step, bool(sizes))
    # On a CPU, channels_last makes torch's own group norm three times slower and all else faster; on a GPU group norm converts to and fro.
    last = bool(sizes) or (device.type == "cpu" and not _has(network, nn.GroupNorm))
    notes = [f"precision {chosen}: {why}", *([f"not compiled: {reason}"] if reason else [])]
    tiled = device.type == "cpu" and chosen == "bfloat16" and last and not sizes and not tests
    return Plan(chosen, sizes, tests, last, tiled, tuple(notes))


def _operations(network: nn.Module, image: Tensor) -> int:
    """Floating-point operations of a forward pass of one image. Leaves the network's mode and statistics unchanged."""
    training = network.training
    with torch.no_grad():
        found = operations(lambda: network.eval()(image))
    network.train(training)
    return found


def _precision(network: nn.Module, device: torch.device, step: float, compiled: bool) -> tuple[str, str]:
    """The precision that `auto` chooses for steps of `step` operations, and why."""
    if not has_fast_bfloat16(device):
        return "float32", "this device has no instructions for bfloat16 products"
    if device.type == "cuda" and not compiled:
        return "float32", "bfloat16 that is not compiled is slower on a GPU, since group norm runs in float32"
    if device.type == "cpu" and step < FINE:
        return "float32", f"a step of {step:.2g} operations is too small to be faster in bfloat16"
    if device.type == "cpu" and any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in network.modules()):
        return "float32", "convolutions in groups are slow in bfloat16 on a processor"
    return "bfloat16", "this device has instructions for bfloat16 products"


def _compiled(
    network: nn.Module, device: torch.device, work: Work, forward: int, compile_: str, section: str
) -> tuple[tuple[int, ...], bool, str]:
    """The batch sizes to compile, whether to compile the test pass, and, if nothing is compiled, the reason."""
    if compile_ == "never":
        return (), False, "as asked"
    missing = missing_compiler(device)
    if compile_ == "always":
        if missing:
            raise UserError(f"{section}.compile: always, but {missing}; use auto")
        return tuple(work.trained), work.tested > 0, ""
    batch_norm = has_batch_norm(network)
    sizes, tests = worth_compiling(device.type, forward, work, batch_norm)
    if sizes or tests:
        return ((), False, missing) if missing else (sizes, tests, "")
    if device.type == "cpu" and batch_norm:
        return (), False, "a network with batch norm is as fast without on a processor"
    return (), False, f"{TRAINING * forward * sum(work.trained.values()):.2g} floating-point operations are too few to pay for it"


class Engine:
    """Runs `network` on its device as `plan` says: images (n, C, H, W) to float32 logits (n, classes), differentiable as usual.

    Networks of one architecture share an engine (`load`), which compiles once. It compiles when it is made, on zero images like `image`
    (1, C, H, W), so that neither random draws nor the timing of a training depend on it. Code that cannot be compiled runs eagerly.
    """

    def __init__(self, network: nn.Module, plan: Plan, image: Tensor):
        self.network, self.plan, self.device = network, plan, image.device
        if plan.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if plan.tiled:
            tile_convolutions(network)
        if plan.compiled or plan.tests:
            compile_in_own_threads()
            # Compile for exact shapes: a single odd batch would turn sizes into symbols and slow the code down.
            torch.compiler.reset()  # otherwise torch silently runs the eighth network of a process eagerly
            self._fast = torch.compile(self._logits, dynamic=False)
            self._compile(image)

    def __call__(self, images: Tensor) -> Tensor:
        wanted = len(images) in self.plan.compiled if self.network.training else self.plan.tests and len(images) == TEST_BATCH
        return self._fast(images) if wanted else self._logits(images)

    def load(self, network: nn.Module) -> None:
        """Copy the weights and statistics of another network of the same architecture."""
        self.network.load_state_dict(network.state_dict())

    def _logits(self, images: Tensor) -> Tensor:
        if self.plan.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bfloat16"):
            logits: Tensor = self.network(images)
        return logits.float()

    def _compile(self, image: Tensor) -> None:
        kept, training = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}, self.network.training
        start = time.monotonic()
        try:
            for size in self.plan.compiled:
                self.network.train()
                self(image.new_zeros(size, *image.shape[1:])).sum().backward()
            if self.plan.tests:
                self.network.eval()
                with torch.no_grad():
                    self(image.new_zeros(TEST_BATCH, *image.shape[1:]))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # compilers fail in many ways; fall back to eager code
            line = str(error).strip().partition("\n")[0]
            print(f"not compiled, {type(error).__name__}: {line}", file=sys.stderr, flush=True)
            self.plan = replace(self.plan, compiled=(), tests=False)
        else:
            print(f"compiled in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        self.network.load_state_dict(kept)
        self.network.train(training)
        self.network.zero_grad()


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a layer of `network` is a batch norm."""
    return _has(network, nn.modules.batchnorm._BatchNorm)


def _has(network: nn.Module, kind: type[nn.Module]) -> bool:
    return any(isinstance(module, kind) for module in network.modules())

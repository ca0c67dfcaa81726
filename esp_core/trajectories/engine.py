"""How a network is trained fast on the device at hand: precision, memory format, compilation, Winograd convolutions.

What is chosen is a function of the network, the recipe and the kind of device, never of a shard, so that an expert is the same in
every shard.

Images a CPU-second, forward and backward, ConvNet-3 of width 128, 32x32, batches of 256, one thread of an AMD EPYC with AVX2, torch 2.13:
eager 94 to 100; with memory reused (`devices.reuse_memory`) 147 to 160; eager in channels_last 77; compiled, channels_last, 176 to 220;
that with Winograd convolutions 320 to 430; bfloat16 without instructions for it 8. To compile took 37 to 60 seconds.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from esp_core.compiling import WORTH_COMPILING, compile_in_own_threads, missing_compiler, operations
from esp_core.devices import has_fast_bfloat16
from esp_core.errors import UserError
from esp_core.trajectories import winograd

PRECISIONS = ("auto", "float32", "bfloat16")

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Plan:
    """How experts are trained, and why not otherwise."""

    precision: str
    compiled: bool
    channels_last: bool
    winograd: bool
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, object]:
        """What a shard says about it."""
        return {key: value for key, value in asdict(self).items() if key != "notes"}


def plan(network: nn.Module, image: Tensor, images: int, precision: str) -> Plan:
    """The plan for training `network` on a number of images such as `image` (1, C, H, W), all epochs counted.

    Raises UserError for an unknown precision.
    """
    device = image.device
    if precision not in PRECISIONS:
        raise UserError(f"experts.precision: {precision} is unknown; use one of {', '.join(PRECISIONS)}")
    fast = has_fast_bfloat16(device)
    if precision == "auto":
        precision = "bfloat16" if fast else "float32"
    notes = [f"precision {precision}: this device has {'' if fast else 'no '}instructions for bfloat16 products"]
    with torch.no_grad():
        work = 3 * images * operations(lambda: network(image))  # the backward pass costs two forward passes
    missing = missing_compiler(device)
    if work < WORTH_COMPILING:
        notes.append(f"not compiled: {work:.2g} floating-point operations an expert are too few to pay for it")
    elif missing:
        notes.append(f"not compiled: {missing}")
    compiled = work >= WORTH_COMPILING and not missing
    # Eager CPU convolutions and poolings are slower in channels_last.
    channels_last = device.type == "cuda" or compiled
    fewer = compiled and device.type == "cpu" and precision == "float32"
    return Plan(precision, compiled, channels_last, fewer, tuple(notes))


def losses(network: nn.Module, chosen: Plan, device: torch.device) -> tuple[Loss, Loss]:
    """Two functions of (images, labels) -> mean cross-entropy: the fast one for full batches, and one for any batch."""
    if chosen.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    any_batch = _loss(network, chosen, device)
    if not chosen.compiled:
        return any_batch, any_batch
    compile_in_own_threads()
    fast = winograd.replace_convolutions(network) if chosen.winograd else network
    # A shape compiled for itself: an odd last batch would make all sizes symbols, and the code slow.
    return torch.compile(_loss(fast, chosen, device), dynamic=False), any_batch


def make_deterministic(device: torch.device) -> None:
    """The same sums at every run: on CUDA, cuDNN's convolutions that have an order."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def _loss(network: nn.Module, chosen: Plan, device: torch.device) -> Loss:
    low = chosen.precision == "bfloat16"

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        if chosen.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            logits = network(images)
        return cross_entropy(logits.float(), labels)

    return loss

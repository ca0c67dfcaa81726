"""How many synthetic images fit in memory at once: measured on one unit and compared with the device's memory.

The device's total memory counts, not what is free now, so that the same job on the same machine uses the same micro-batches and
gives the same bits. If other jobs hold the memory, the micro-batch is halved when it runs out.
"""

import os
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from esp_core.objectives import Batch, State
from esp_core.parametrisations import Parametrisation
from esp_core.runtime import leases

SHARE = 0.25  # of the memory: other jobs, the allocator's slack and temporary buffers need the rest
DOUBLE_BACKWARD = 3.0  # memory of the graph of a second derivative, as a multiple of that of a first


def images_that_fit(synthetic: Parametrisation, state: State, device: torch.device) -> int:
    """How many images fit on the device together with the graph of their second derivative; at least one unit."""
    per_image = saved_bytes(synthetic, state) * DOUBLE_BACKWARD
    jobs = leases.share() if device.type == "cuda" else 1
    return max(synthetic.images_per_unit, int(total_bytes(device) * SHARE / jobs / per_image))


def total_bytes(device: torch.device) -> int:
    """Total memory of the device in bytes; for a CPU, that of the machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def saved_bytes(synthetic: Parametrisation, state: State) -> float:
    """Bytes that autograd saves for the forward pass of one image, decoding included."""

    def forward() -> None:
        units = torch.arange(1)
        Batch(state, synthetic.decode(units), synthetic.labels(units), trace=True, graph=True).logits.sum()

    return max(1, kept_bytes(forward, (state.theta, *synthetic.tensors.values()))) / synthetic.images_per_unit


def kept_bytes(work: Callable[[], object], shared: Iterable[Tensor]) -> int:
    """Bytes that autograd saves for the backward pass of `work`, without those of `shared`."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> None:
        # Detached, and the hook returns None: a graph that holds its own outputs through a hook is never freed.
        kept[tensor.untyped_storage()._cdata] = tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(keep, _never_unpacked):
        work()
    for tensor in shared:
        kept.pop(tensor.untyped_storage()._cdata, None)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _never_unpacked(packed: None) -> Tensor:
    raise AssertionError("this graph is only measured")

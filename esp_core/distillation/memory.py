"""How many synthetic images may be alive at once: measured on one unit, held against the device's memory.

The total is asked for, not what is free just now: the same job on the same machine then walks in the same micro-batches
and gives the same bits. Where others hold the memory, running out halves the micro-batch.
"""

import os
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from esp_core.objectives import Batch, State
from esp_core.parametrisations import Parametrisation
from esp_core.runtime import leases

SHARE = 0.25  # of the memory: other jobs, the allocator's slack and temporary buffers need the rest
DOUBLE_BACKWARD = 3.0  # what the second derivative keeps, as a multiple of what the first keeps


def images_that_fit(synthetic: Parametrisation, state: State, device: torch.device) -> int:
    """The images that may be alive at once on the device, with the graph of their second derivative; one unit at least."""
    per_image = saved_bytes(synthetic, state) * DOUBLE_BACKWARD
    jobs = leases.share() if device.type == "cuda" else 1
    return max(synthetic.images_per_unit, int(total_bytes(device) * SHARE / jobs / per_image))


def total_bytes(device: torch.device) -> int:
    """Memory of the device; of the machine where the device is its CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def saved_bytes(synthetic: Parametrisation, state: State) -> float:
    """Bytes that autograd keeps for one image's forward pass, decoding included."""

    def forward() -> None:
        units = torch.arange(1)
        Batch(state, synthetic.decode(units), synthetic.labels(units), trace=True, graph=True).logits.sum()

    return max(1, kept_bytes(forward, (state.theta, *synthetic.tensors.values()))) / synthetic.images_per_unit


def kept_bytes(work: Callable[[], object], shared: Iterable[Tensor]) -> int:
    """Bytes that autograd keeps of `work` until its backward pass, those of `shared` left out."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> None:
        # Detached, and nothing handed back: a graph that holds its own outputs through a hook is never freed.
        kept[tensor.untyped_storage()._cdata] = tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(keep, _never_unpacked):
        work()
    for tensor in shared:
        kept.pop(tensor.untyped_storage()._cdata, None)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _never_unpacked(packed: None) -> Tensor:
    raise AssertionError("this graph is only measured")

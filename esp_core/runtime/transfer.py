"""Copies from CPU to device: many small tensors in one non-blocking copy."""

from typing import TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

T = TypeVar("T")


def send(tree: T, device: torch.device) -> T:
    """`tree` with its tensors on `device`, copied at once and bit by bit; tensors already there are not copied.

    `tree` consists of tuples, lists and dicts. Tensors to copy are float32, or int64 with values below 2^31.
    """
    leaves, form = tree_flatten(tree)
    here = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.device != device]
    if not here:
        return tree
    packed = torch.cat([_bits(leaves[i]) for i in here])
    if device.type == "cuda":
        packed = packed.pin_memory()
    parts = packed.to(device, non_blocking=True).split([leaves[i].numel() for i in here])
    for i, part in zip(here, parts, strict=True):
        part = part.view(torch.float32) if leaves[i].dtype == torch.float32 else part.long()
        leaves[i] = part.view(leaves[i].shape)
    sent: T = tree_unflatten(leaves, form)
    return sent


def _bits(tensor: Tensor) -> Tensor:
    """The numbers of a tensor as 32-bit integers."""
    flat = tensor.reshape(-1)
    return flat.contiguous().view(torch.int32) if tensor.dtype == torch.float32 else flat.int()

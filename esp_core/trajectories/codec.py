"""Snapshots as 16-bit integers.

A parameter tensor of an expert has one offset and one step: theta = offset + step * q. The store keeps q modulo 2^16 for each
snapshot. A step is just large enough that q moves by less than 2^15 between linked snapshots, so that differences of linked
snapshots come back exactly from their low 16 bits, and q itself from the first snapshot, which needs no more than 16 bits.
Linked are neighbours, and every snapshot with the last multiple of `STRIDE` before it: to read a segment takes its own columns
and one in `STRIDE` of those before it.

Every snapshot is rounded on its own, so errors do not add up: |stored - exact| <= step / 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

STRIDE = 8
REACH = 32_000  # in steps, how far q may move along a link: below 2^15, with room for rounding
RANGE = 1 << 22  # in steps, how far q may be from 0: whole numbers that float32 holds exactly

Columns = NDArray[np.int16]


@dataclass(frozen=True)
class Scale:
    """Offset and step of each parameter tensor, (tensors,) float32."""

    offsets: NDArray[np.float32]
    steps: NDArray[np.float32]


def encode(snapshots: NDArray[np.float32], sizes: Sequence[int]) -> tuple[Columns, Scale]:
    """Snapshots (S, P), whose parameter tensors have `sizes` entries, as columns (S, P) int16 and their scale."""
    columns = np.empty(snapshots.shape, np.int16)
    offsets, steps = np.empty(len(sizes), np.float32), np.empty(len(sizes), np.float32)
    for i, part in enumerate(_parts(sizes)):
        tensor = snapshots[:, part].astype(np.float64)
        offsets[i] = (tensor[0].min() + tensor[0].max()) / 2
        tensor -= offsets[i]
        steps[i] = _step(tensor)
        columns[:, part] = np.rint(tensor / steps[i]).astype(np.int64).astype(np.int16)  # keeps the low 16 bits
    return columns, Scale(offsets, steps)


def needed(start: int, length: int) -> list[int]:
    """The columns from which `decode` makes the snapshots start .. start + length."""
    return [*range(0, start, STRIDE), *range(start, start + length + 1)]


def decode(columns: Sequence[Tensor], snapshots: int, scale: Scale, sizes: Sequence[int]) -> Tensor:
    """The last `snapshots` of the `needed` columns, each (P,) int16, as float32 (snapshots, P) on their device."""
    device = columns[0].device
    lengths = torch.tensor(sizes)
    offset, step = (torch.from_numpy(part).repeat_interleave(lengths).to(device) for part in (scale.offsets, scale.steps))
    out = torch.empty(snapshots, len(columns[0]), device=device)
    move = torch.empty_like(columns[0])
    q = columns[0].float()
    for i, column in enumerate(columns):
        if i:
            q += torch.sub(column, columns[i - 1], out=move)  # wraps, and so gives the true difference
        if (row := i - len(columns) + snapshots) >= 0:
            torch.addcmul(offset, q, step, out=out[row])
    return out


def _step(tensor: NDArray[np.float64]) -> np.float32:
    """The step for snapshots (S, n) of one tensor, less its offset."""
    anchors = tensor[np.arange(len(tensor)) // STRIDE * STRIDE]
    links = (tensor[:1], tensor[1:] - tensor[:-1], tensor - anchors, tensor[STRIDE::STRIDE] - tensor[:-STRIDE:STRIDE])
    reach = max(float(np.abs(link).max(initial=0.0)) for link in links)
    step = np.float32(max(reach / REACH, float(np.abs(tensor).max()) / RANGE))
    return step or np.float32(1.0)  # a tensor that never moves is its offset


def _parts(sizes: Sequence[int]) -> list[slice]:
    ends = np.cumsum(sizes)
    return [slice(int(end - size), int(end)) for size, end in zip(sizes, ends, strict=True)]

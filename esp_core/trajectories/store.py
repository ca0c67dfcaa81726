"""A shard: one HDF5 file of experts, a row an expert, a column a snapshot, P values.

    columns   int16 (experts, snapshots, P), one contiguous block, see `codec`   scales   float32 (experts, 3, groups)
    accuracy  float32 (experts,), percent of the test images after the last epoch
    loss      float32 (experts, epochs), mean over the images of an epoch        seconds  float64 (experts,)
    digest    SHA-256 of each expert's values

At its head stands, as text, what the shard is (spec, code, data, layout, engine) and its digest: see `seal`. Time is kept but is part of
no digest: an expert that is trained again is the same expert.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from esp_core.runtime import files
from esp_core.study.provenance import canonical
from esp_core.trajectories import seal
from esp_core.trajectories.codec import Columns, Scale, encode, standing

Layout = list[tuple[str, list[int]]]


@dataclass(frozen=True)
class Expert:
    """One trained expert: columns (snapshots, P) and scale as stored, accuracy in percent, loss (epochs,)."""

    columns: Columns
    scale: Scale
    accuracy: float
    loss: NDArray[np.float32]
    seconds: float

    def digest(self) -> str:
        """SHA-256 of everything that training computed; the time it took is not part of it."""
        sha = hashlib.sha256()
        for array in (self.scale.rows(), np.float32(self.accuracy), self.loss, self.columns):
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()


def groups(layout: Layout) -> NDArray[np.int64]:
    """How many values share a scale, in their order: those of an output channel of a filter or matrix, and those of a vector."""
    parts = (([math.prod(shape[1:])] * shape[0]) if len(shape) > 1 else [math.prod(shape)] for _, shape in layout)
    return np.array([size for part in parts for size in part])


def compact(snapshots: NDArray[np.float32], layout: Layout, accuracy: float, loss: Sequence[float], seconds: float) -> Expert:
    """An expert ready to be stored, from its snapshots (S, P). Raises ValueError where two neighbours are equal."""
    columns, scale = encode(snapshots, groups(layout))
    if (still := standing(columns)) is not None:
        raise ValueError(f"snapshots {still} and {still + 1} are equal")
    return Expert(columns, scale, accuracy, np.array(loss, np.float32), seconds)


def write(path: Path, header: dict[str, Any], experts: Iterable[Expert], count: int, snapshots: int, epochs: int) -> None:
    """Write `count` experts to `path`, one in memory at a time, whole or not at all."""
    sizes = groups(header["layout"])
    room = seal.block_size(header)
    with files.replacing(path) as temporary:
        with h5py.File(temporary, "w", userblock_size=room) as file:
            file.create_dataset("columns", (count, snapshots, int(sizes.sum())), "<i2")
            file.create_dataset("scales", (count, 3, len(sizes)), "<f4")
            file.create_dataset("accuracy", (count,), "<f4")
            file.create_dataset("loss", (count, epochs), "<f4")
            file.create_dataset("seconds", (count,), "<f8")
            file.create_dataset("digest", (count,), "S64")
            digests = [_write(file, row, expert) for row, expert in enumerate(experts)]
            places = {name: (file[name].id.get_offset(), list(file[name].shape)) for name in ("columns", "scales")}
        seal.seal(temporary, header | {"digest": _digest(header, digests)}, places, room)


def _write(file: h5py.File, row: int, expert: Expert) -> str:
    file["columns"][row] = expert.columns
    file["scales"][row] = expert.scale.rows()
    file["accuracy"][row], file["loss"][row] = expert.accuracy, expert.loss
    file["seconds"][row], file["digest"][row] = expert.seconds, (digest := expert.digest())
    return digest


def _digest(header: dict[str, Any], experts: list[str]) -> str:
    """SHA-256 over what a shard is and what its experts are."""
    return hashlib.sha256(canonical([header, experts]).encode()).hexdigest()

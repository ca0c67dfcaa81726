"""A shard: an HDF5 file with one expert per row.

    steps     float16 (experts, snapshots, P), one contiguous block: the initial weights, then the differences between snapshots
    scale     float32 (experts,), the unit of the steps, a power of two
    digest    SHA-256 of each expert's scale and steps
    accuracy  float32 (experts,), percent of the test images after the last epoch
    loss      float32 (experts, epochs), mean over the images of an epoch        seconds  float64 (experts,)

The attributes, as JSON, are: spec, code, data, layout (names and shapes of the parameters), engine. Snapshots 0 to t of an expert are
`file["scale"][expert] * file["steps"][expert, : t + 1].astype("float32").cumsum(0)`, bit by bit what `Trajectories` returns.

The rounding error of a step is carried into the next one (error feedback), so errors do not add up: every snapshot is off by one common
vector, the rounding of the initial weights, plus at most half a unit in the last place of its own step. docs/experts.md has the measured
angles to the exact span.

The first 512 bytes, HDF5's user block, hold the SHA-256 of the rest. It is checked before HDF5's reader opens the file, since that may
fail in any way, or never end, on a changed file. An expert's digest does not cover time: a retrained expert is the same expert.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from esp_core.runtime import files
from esp_core.study.provenance import canonical

FORMAT = "esp-trajectories-2"
HEAD = 512  # bytes of the user block
BITS = 14  # values are scaled below 2^BITS: far from the largest float16, 65504, and from the smallest

Layout = list[tuple[str, list[int]]]


@dataclass(frozen=True)
class Expert:
    """A trained expert: steps (snapshots, P) and scale as stored, accuracy in percent, loss (epochs,)."""

    steps: NDArray[np.float16]
    scale: float
    accuracy: float
    loss: list[float]
    seconds: float

    @property
    def digest(self) -> str:
        """SHA-256 of steps and scale."""
        return digest(self.steps, self.scale)


def digest(steps: NDArray[np.float16], scale: float) -> str:
    """SHA-256 of the steps (snapshots, P) of an expert and their scale."""
    sha = hashlib.sha256(np.float32(scale).tobytes())
    sha.update(np.ascontiguousarray(steps).data)
    return sha.hexdigest()


def encode(snapshots: NDArray[np.float32]) -> tuple[NDArray[np.float16], float]:
    """Steps (S, P) and scale of the snapshots (S, P) of an expert."""
    largest = max(float(np.abs(part).max()) for part in (snapshots[0], np.diff(snapshots, axis=0)))
    scale = 2.0 ** (math.frexp(largest)[1] - BITS)
    steps = np.empty(snapshots.shape, np.float16)
    steps[0] = snapshots[0] / scale
    decoded = steps[0].astype(np.float32)
    shift = decoded - snapshots[0].astype(np.float64) / scale
    for step, snapshot in zip(steps[1:], snapshots[1:], strict=True):
        step[:] = snapshot / scale + shift - decoded
        decoded += step
    return steps, scale


def first_repeat(snapshots: NDArray[np.float32]) -> int | None:
    """The index of the first of the snapshots (S, P) that equals the next one, or None."""
    return next((t for t, (one, other) in enumerate(pairwise(snapshots)) if np.array_equal(one, other)), None)


def write(path: Path, facts: dict[str, Any], experts: Iterable[Expert], count: int, snapshots: int, epochs: int) -> None:
    """Write `count` experts to `path`, atomically and with one in memory at a time. `facts` become the attributes."""
    parameters = sum(math.prod(shape) for _, shape in facts["layout"])
    with files.replacing(path) as temporary:
        with h5py.File(temporary, "w", userblock_size=HEAD, libver="latest") as file:
            file.attrs.update({name: canonical(fact) for name, fact in facts.items()})
            file.create_dataset("steps", (count, snapshots, parameters), "<f2")
            file.create_dataset("loss", (count, epochs), "<f4")
            for name, kind in {"scale": "<f4", "accuracy": "<f4", "seconds": "<f8", "digest": "S64"}.items():
                file.create_dataset(name, (count,), kind)
            for row, expert in enumerate(experts):
                for name, values in file.items():
                    values[row] = getattr(expert, name)
        with temporary.open("r+b") as raw:
            raw.write(head(body_digest(temporary)))


def head(sha256: str) -> bytes:
    """The user block of a shard whose remaining bytes have this SHA-256."""
    return f"{FORMAT} sha256 {sha256}\n".encode().ljust(HEAD, b"\n")


def body_digest(path: Path) -> str:
    """SHA-256 of all bytes after the user block."""
    with path.open("rb") as file:
        file.seek(HEAD)
        return hashlib.file_digest(file, "sha256").hexdigest()

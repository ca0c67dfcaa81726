"""A shard opened for reading."""

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esp_core.runtime.errors import UserError
from esp_core.trajectories.codec import Scale
from esp_core.trajectories.seal import REBUILD, unseal
from esp_core.trajectories.store import Expert, Layout


class Shard:
    """A shard opened for reading. Its `header` says what it is: spec, code, data, layout, engine, digest."""

    def __init__(self, path: Path):
        """Raises UserError for a missing, truncated, changed or foreign file; the columns themselves are not looked at."""
        self.path = path
        self.header = unseal(path)
        self.layout: Layout = [(name, shape) for name, shape in self.header["layout"]]
        self.digest: str = self.header["digest"]
        self._offset, self.shape = self.header["columns"]  # shape: (experts, snapshots, P)
        offset, shape = self.header["scales"]
        self.scales = [Scale(*rows) for rows in np.fromfile(path, "<f4", math.prod(shape), offset=offset).reshape(shape)]

    def __len__(self) -> int:
        return int(self.shape[0])

    @property
    def first(self) -> int:
        """The number of this shard's first expert in the study."""
        return int(self.header["spec"]["first"])

    def read(self, row: int, columns: Sequence[int]) -> Tensor:
        """Some columns of the expert in `row`, (columns, P) int16. A plain read: page faults make a mapping slower."""
        _, snapshots, parameters = self.shape
        out = torch.empty(len(columns), parameters, dtype=torch.int16)
        with self.path.open("rb", buffering=0) as file:
            for column, buffer in zip(columns, out.numpy(), strict=True):
                file.seek(self._offset + 2 * parameters * (row * snapshots + column))
                if file.readinto(buffer) != buffer.nbytes:
                    raise UserError(f"{self.path}: it became shorter while it was in use; {REBUILD}")
        return out

    @cached_property
    def digests(self) -> list[str]:
        """The SHA-256 of each expert, as stored."""
        return [value.decode("ascii", "replace") for value in self._values("digest")]

    @cached_property
    def experts(self) -> list[Expert]:
        """Its experts, as stored."""
        columns = np.memmap(self.path, "<i2", "r", self._offset, tuple(self.shape))
        parts = (columns, self.scales, *map(self._values, ("accuracy", "loss", "seconds")))
        return [Expert(*values) for values in zip(*parts, strict=True)]

    def _values(self, name: str) -> NDArray[Any]:
        with h5py.File(self.path, "r") as file:
            values: NDArray[Any] = file[name][:]
        return values

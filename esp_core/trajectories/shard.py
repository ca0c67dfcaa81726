"""A shard opened for reading."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esp_core.errors import UserError
from esp_core.trajectories.codec import Scale
from esp_core.trajectories.store import FORMAT, Expert, Layout, sizes

REBUILD = "delete it and the manifest.json beside it, then run the workflow again: only this shard is made anew"


# Bytes that changed inside HDF5's own structures come out of h5py as any of these.
DAMAGE = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError)


class Shard:
    """A shard opened for reading."""

    def __init__(self, path: Path):
        """Raises UserError for a missing, truncated or foreign file."""
        self.path = path
        if not path.is_file():
            raise UserError(f"{path}: no such shard; run the workflow for the manifest.json beside it: only this shard is made")
        with self._opened() as file:
            if file.attrs.get("format") != FORMAT:
                raise UserError(f"{path}: not a shard of expert trajectories of this version; {REBUILD}")
            self.header: dict[str, Any] = json.loads(file.attrs["header"])
            self.layout: Layout = [(name, shape) for name, shape in self.header["layout"]]
            self.digest = str(file.attrs["digest"])
            self.scales = [Scale(*rows) for rows in file["scales"][:]]
            columns = file["columns"]
            self.shape: tuple[int, int, int] = columns.shape
            self._offset: int = columns.id.get_offset()
            if columns.dtype != "<i2" or file["scales"].shape != (len(self), 3, len(self.layout)):
                raise ValueError("its columns and scales do not fit together")
            if sum(sizes(self.layout)) != self.shape[2]:
                raise ValueError("its columns are not those of its parameters")

    @contextmanager
    def _opened(self) -> Iterator[h5py.File]:
        try:
            with h5py.File(self.path, "r") as file:
                yield file
        except DAMAGE as error:
            raise UserError(f"{self.path}: damaged ({error}); {REBUILD}") from error

    def __len__(self) -> int:
        return self.shape[0]

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
        columns = np.memmap(self.path, "<i2", "r", self._offset, self.shape)
        parts = (columns, self.scales, *map(self._values, ("accuracy", "loss", "seconds")))
        return [Expert(*values) for values in zip(*parts, strict=True)]

    def _values(self, name: str) -> NDArray[Any]:
        with self._opened() as file:
            values: NDArray[Any] = file[name][:]
            if len(values) != len(self):
                raise ValueError(f"{name} has {len(values)} rows for {len(self)} experts")
        return values

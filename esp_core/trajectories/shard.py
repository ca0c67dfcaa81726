"""A shard opened for reading."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from esp_core.errors import UserError
from esp_core.trajectories.codec import Scale
from esp_core.trajectories.store import FORMAT, SCALE, Expert, Layout

REBUILD = "delete it and the manifest.json beside it, then run the workflow again: only this shard is made anew"


class Shard:
    """A shard opened for reading. Its columns are mapped, not read: the system's page cache is the only copy."""

    def __init__(self, path: Path):
        """Raises UserError for a missing, truncated or foreign file."""
        self.path = path
        if not path.is_file():
            raise UserError(f"{path}: no such shard; run the same command again: only this shard is made")
        try:
            with h5py.File(path, "r") as file:
                if file.attrs.get("format") != FORMAT:
                    raise UserError(f"{path}: not a shard of expert trajectories of this version; {REBUILD}")
                self._open(file)
        except (OSError, KeyError, ValueError) as error:
            raise UserError(f"{path}: damaged ({error}); {REBUILD}") from error

    def _open(self, file: h5py.File) -> None:
        self.header: dict[str, Any] = json.loads(file.attrs["header"])
        self.layout: Layout = [(name, shape) for name, shape in self.header["layout"]]
        self.digest = str(file.attrs["digest"])
        self.digests = [value.decode("ascii", "replace") for value in file["digest"][:]]
        self.accuracy, self.loss, self.seconds = file["accuracy"][:], file["loss"][:], file["seconds"][:]
        self.scales = [Scale(*parts) for parts in zip(*(file[name][:] for name in SCALE), strict=True)]
        columns = file["columns"]
        self.columns: np.memmap[Any, np.dtype[np.int16]] = np.memmap(
            self.path, columns.dtype, "c", columns.id.get_offset(), columns.shape
        )

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def first(self) -> int:
        """The number of this shard's first expert in the study."""
        return int(self.header["spec"]["first"])

    def expert(self, row: int) -> Expert:
        """The expert in `row`, as stored."""
        return Expert(self.columns[row], self.scales[row], float(self.accuracy[row]), self.loss[row], float(self.seconds[row]))

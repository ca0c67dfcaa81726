"""Reading segments of expert trajectories onto a device."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esp_core.runtime.errors import UserError
from esp_core.study import kinds
from esp_core.study.provenance import canonical, digest
from esp_core.trajectories import store

FORMAT = "esp-manifest-2"
REBUILD = "delete it and the manifest.json beside it, then run the workflow again: only this shard is made anew"


class Trajectories:
    """The experts of a manifest; `len` is their number.

    Segments are read from the files, which the system's page cache keeps in memory, without the HDF5 library: the manifest has the offset
    of each expert. An expert's digest is checked when it is first used.
    """

    def __init__(self, path: str | Path, device: str | torch.device = "cpu"):
        """Raises UserError if the manifest is missing or damaged, or if a shard is missing, truncated or not the one listed."""
        self.path = path = Path(path)
        self.manifest = load(path)
        self.device = torch.device(device)
        self.layout = [(str(name), tuple(shape)) for name, shape in self.manifest["layout"]]
        self.parameters = sum(math.prod(shape) for _, shape in self.layout)
        self.snapshots: int = self.manifest["snapshots"]
        self._places = [place for entry in self.manifest["shards"] for place in self._opened(entry)]
        self._checked: set[int] = set()

    def __len__(self) -> int:
        return len(self._places)

    def check(self, spec: dict[str, Any], data: str) -> None:
        """Raise UserError if these are not the experts of the distillation `spec` on data with digest `data`."""
        made, total = self.manifest["spec"], {"total": self.manifest["spec"]["total"]}
        theirs = {"dataset": made["dataset"], "network": _complete(made["network"]), "experts": total}
        ours = {"dataset": spec["dataset"], "network": _complete(spec["network"]), "experts": spec.get("experts") or total}
        if found := difference(theirs, ours):
            key, their, our = found
            raise UserError(f"{self.path}: experts of {key} {their}, this job has {our}; give the experts that it asks for")
        if self.manifest["data"] != data:
            raise UserError(
                f"{self.path}: its experts were trained on other data ({self.manifest['data']}) than these ({data}); train them on these"
            )

    def segment(self, expert: int, start: int, length: int) -> Tensor:
        """Snapshots start .. start + length of an expert, (length + 1, P) float32 on the device.

        Raises IndexError outside the stored range, UserError if the expert has changed since it was written.
        """
        if not 0 <= expert < len(self) or start < 0 or length < 0 or start + length >= self.snapshots:
            raise IndexError(
                f"expert {expert}, snapshots {start} to {start + length}: the store has {len(self)} experts of {self.snapshots} snapshots"
            )
        scale: float = self.manifest["experts"][expert]["scale"]
        if expert not in self._checked:
            if store.digest(self._steps(expert, self.snapshots), scale) != self.manifest["experts"][expert]["digest"]:
                raise UserError(f"{self._places[expert][0]}: expert {expert} has changed since it was written; {REBUILD}")
            self._checked.add(expert)
        return decode(torch.from_numpy(self._steps(expert, start + length + 1)).to(self.device), start, scale)

    def snapshot(self, expert: int, index: int) -> Tensor:
        """Snapshot `index` of an expert, (P,) float32 on the device."""
        return self.segment(expert, index, 0)[0]

    def _steps(self, expert: int, count: int) -> NDArray[np.float16]:
        """The first `count` steps of an expert, (count, P). A plain read, since page faults make a memory map slower."""
        path, offset = self._places[expert]
        steps = np.fromfile(path, "<f2", count * self.parameters, offset=offset)
        if steps.size != count * self.parameters:
            raise UserError(f"{path}: it became shorter while it was in use; {REBUILD}")
        return steps.reshape(count, self.parameters)

    def _opened(self, entry: dict[str, Any]) -> list[tuple[Path, int]]:
        """File and offset of the experts of a shard."""
        path = self.path.parent / entry["file"]
        head, size = head_of(path), path.stat().st_size
        if size < entry["bytes"]:
            raise UserError(f"{path}: truncated: {size} of {entry['bytes']} bytes; {REBUILD}")
        if size > entry["bytes"] or head != store.head(entry["sha256"]):
            raise UserError(f"{path}: not the shard that the manifest lists; {REBUILD}")
        stride = 2 * self.snapshots * self.parameters
        return [(path, entry["offset"] + row * stride) for row in range(entry["count"])]


def _complete(network: dict[str, Any]) -> dict[str, Any]:
    """A network's settings with defaults filled in."""
    return kinds.defaults("network", network["name"]) | network


def decode(steps: Tensor, start: int, scale: float) -> Tensor:
    """Snapshots (n - start, P) float32, from `start` on, of steps (n, P) float16. A loop: cumsum has no fixed order of sums on CUDA."""
    snapshots = torch.empty(len(steps) - start, steps.shape[1], device=steps.device)
    total = torch.zeros(steps.shape[1], device=steps.device)
    for t, step in enumerate(steps):
        total += step
        if t >= start:
            torch.mul(total, scale, out=snapshots[t - start])
    return snapshots


def head_of(path: Path) -> bytes:
    """The user block of a shard. Raises UserError if the file is missing."""
    try:
        with path.open("rb") as file:
            return file.read(store.HEAD)
    except FileNotFoundError:
        raise UserError(f"{path}: no such shard; run the workflow for the manifest.json beside it: only this shard is made") from None


def load(path: Path) -> dict[str, Any]:
    """The manifest at `path`. Raises UserError if it is missing, damaged or something else."""
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such manifest; make it with python -m esp_core experts manifest") from None
    except ValueError as error:
        raise UserError(f"{path}: not a manifest ({error}); delete it and run the same command again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path}: not a manifest of expert trajectories of this version; delete it and run the same command again")
    if manifest.pop("digest", None) != digest(canonical(manifest)):
        raise UserError(f"{path}: it has changed since it was written; delete it and run the same command again")
    return manifest


def difference(theirs: dict[str, Any], ours: dict[str, Any], prefix: str = "") -> tuple[str, Any, Any] | None:
    """The first key in which two specs differ, such as "training.lr", with both values; None if they are equal."""
    for key in sorted(theirs.keys() | ours.keys()):
        their, our = theirs.get(key), ours.get(key)
        if isinstance(their, dict) and isinstance(our, dict):
            if found := difference(their, our, f"{prefix}{key}."):
                return found
        elif their != our:
            return f"{prefix}{key}", their, our
    return None

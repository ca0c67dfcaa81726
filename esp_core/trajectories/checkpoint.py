"""Checkpoints of an unfinished shard beside its output: one for every epoch, so that a killed job can be resumed.

The folder `shard-000.h5.part` holds `job.json` (spec, code and data of the shard), a checksummed safetensors file per epoch, and a lock.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from esp_core.runtime import checksummed, files
from esp_core.runtime.errors import UserError, naming
from esp_core.study.provenance import canonical

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Record:
    """An expert after an epoch (0: initialised): `state` holds its weights and, with momentum, the momentum buffer, (P,) each."""

    state: dict[str, Tensor]
    loss: float
    seconds: float


@contextmanager
def unfinished(output: Path, identity: dict[str, Any]) -> Iterator["Part"]:
    """The checkpoints of the shard `output`, deleted when the block ends without an error.

    Checkpoints of another `identity` are discarded. Raises UserError if another job is using them.
    """
    folder = output.with_name(output.name + ".part")
    with naming(folder):
        if folder.is_file():  # written by an earlier version
            folder.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(f"{folder}: another job is training this shard; wait for it or end it") from None
    with lock:
        yield Part(folder, canonical(identity))
        shutil.rmtree(folder)


class Part:
    """The checkpoints of one unfinished shard. `note` says what was found of an earlier job."""

    def __init__(self, folder: Path, identity: str):
        self.folder, job, self.note = folder, folder / "job.json", ""
        found = [*folder.glob(f"*{SUFFIX}")]
        if job.exists() and job.read_text() == identity:
            self.note = f"resuming from {folder.name}" if found else ""
            return
        for record in found:
            record.unlink()
        self.note = f"{folder.name} belongs to another spec, code or data: beginning anew" if found else ""
        files.write(job, identity)

    def epochs(self) -> int:
        """The number of finished epochs, over all experts."""
        return sum(1 for path in self.folder.glob(f"*{SUFFIX}") if not path.stem.endswith("-000"))

    def read(self, expert: int, epoch: int) -> Record | None:
        """A checkpoint, or None if it is missing or damaged and the epoch has to be trained."""
        try:
            state, facts = checksummed.read(self._path(expert, epoch))
        except (FileNotFoundError, checksummed.DamagedError):
            return None
        return Record(state, float(facts["loss"]), float(facts["seconds"]))

    def write(self, expert: int, epoch: int, record: Record) -> None:
        """Write a checkpoint, atomically."""
        checksummed.write(self._path(expert, epoch), record.state, {"loss": str(record.loss), "seconds": str(record.seconds)})

    def _path(self, expert: int, epoch: int) -> Path:
        return self.folder / f"expert-{expert:05}-epoch-{epoch:03}{SUFFIX}"

"""What an unfinished shard leaves beside its output: every epoch as it ended, so that a killed job goes on from there.

In the folder `shard-000.h5.part` lie `job.json`, the spec, code and data of the shard, a sealed safetensors file an epoch, and a lock.
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
    """An expert after an epoch (0: freshly initialised): `state` holds weights and, with momentum, its buffer, (P,) each."""

    state: dict[str, Tensor]
    loss: float
    seconds: float


@contextmanager
def unfinished(output: Path, identity: dict[str, Any]) -> Iterator["Part"]:
    """The part of the shard `output`, which is deleted once the block ends without an error.

    What belongs to another `identity` is thrown away. Raises UserError where another job holds it.
    """
    folder = output.with_name(output.name + ".part")
    with naming(folder):
        if folder.is_file():  # an earlier version's
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
    """The records of one unfinished shard. `note` says what was found of an earlier job."""

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
        """How many epochs are whole, those of all experts together."""
        return sum(1 for path in self.folder.glob(f"*{SUFFIX}") if not path.stem.endswith("-000"))

    def read(self, expert: int, epoch: int) -> Record | None:
        """A record, or None where it is missing or damaged: that epoch is to be trained."""
        try:
            state, facts = checksummed.read(self._path(expert, epoch))
        except (FileNotFoundError, checksummed.DamagedError):
            return None
        return Record(state, float(facts["loss"]), float(facts["seconds"]))

    def write(self, expert: int, epoch: int, record: Record) -> None:
        """Add a record, whole or not at all."""
        checksummed.write(self._path(expert, epoch), record.state, {"loss": str(record.loss), "seconds": str(record.seconds)})

    def _path(self, expert: int, epoch: int) -> Path:
        return self.folder / f"expert-{expert:05}-epoch-{epoch:03}{SUFFIX}"

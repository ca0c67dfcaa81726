"""What an unfinished shard leaves beside its output: every epoch as it ended, so that a killed job goes on from there.

`shard-000.h5.part` begins with one line, the spec, code and data of the shard as JSON. Then one record an epoch, all of one size: expert,
epoch (int64), loss, seconds (float64), the weights (P,) and, with momentum, its buffer (P,), float32, and the SHA-256 of all that.
A record that a kill or a power cut left half-written is dropped.
"""

import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esp_core.runtime.errors import UserError, naming
from esp_core.study.provenance import canonical


@dataclass(frozen=True)
class Record:
    """An expert as it was after `epoch` epochs (0: freshly initialised). `state` is (1, P), or (2, P) with the momentum buffer."""

    expert: int
    epoch: int
    loss: float
    seconds: float
    state: NDArray[np.float32]


class Part:
    """The records of one unfinished shard. Use as a context manager: the file is locked against a second job."""

    def __init__(self, output: Path, header: dict[str, Any], rows: int, parameters: int):
        """`rows` is 1, or 2 where a momentum buffer is kept; `note` says what was found. Raises UserError if another job holds it."""
        self.path = output.with_name(output.name + ".part")
        self._head = (canonical(header) + "\n").encode()
        self._shape = (rows, parameters)
        self._body = 32 + 4 * rows * parameters
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(f"{self.path}: another job is training this shard; wait for it or end it") from None
        with naming(self.path):
            self.note = self._begin()

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Record:
        """Record `number`, in the order in which they were written."""
        self._file.seek(self._offset(number))
        record = self._parse(self._file.read(self._body + 32))
        if record is None:
            raise UserError(f"{self.path}: record {number} is damaged; delete the file and run the same command again")
        return record

    def append(self, record: Record) -> None:
        """Add a record; it counts once all of it is written."""
        numbers = np.array([record.expert, record.epoch], "<i8").tobytes() + np.array([record.loss, record.seconds], "<f8").tobytes()
        body = numbers + np.ascontiguousarray(record.state, "<f4").tobytes()
        with naming(self.path):
            self._file.seek(self._offset(self._count))
            self._file.write(body + hashlib.sha256(body).digest())
            self._file.flush()
        self._count += 1

    def remove(self) -> None:
        """Delete the file: the shard is whole."""
        self.path.unlink()

    def _begin(self) -> str:
        """Keep the records of this very job, throw away any other's; say which."""
        self._count = 0
        size = os.fstat(self._file.fileno()).st_size
        if self._file.read(len(self._head)) == self._head:
            self._count = (size - len(self._head)) // (self._body + 32)
            while self._count and self._last_is_broken():
                self._count -= 1
            self._file.truncate(self._offset(self._count))
            return f"resuming from {self.path.name}" if self._count else ""
        self._file.seek(0)
        self._file.truncate()
        self._file.write(self._head)
        self._file.flush()
        return f"{self.path.name} belongs to another spec, code or data: beginning anew" if size else ""

    def _last_is_broken(self) -> bool:
        self._file.seek(self._offset(self._count - 1))
        return self._parse(self._file.read(self._body + 32)) is None

    def _parse(self, data: bytes) -> Record | None:
        body, digest = data[: self._body], data[self._body :]
        if hashlib.sha256(body).digest() != digest:
            return None
        expert, epoch = (int(n) for n in np.frombuffer(body, "<i8", 2))
        loss, seconds = (float(x) for x in np.frombuffer(body, "<f8", 2, 16))
        return Record(expert, epoch, loss, seconds, np.frombuffer(body, "<f4", offset=32).reshape(self._shape).copy())

    def _offset(self, number: int) -> int:
        return len(self._head) + number * (self._body + 32)

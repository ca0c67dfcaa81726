"""The text at the head of a shard, and what proves that the rest is whole. HDF5 leaves room for it, its user block.

HDF5's reader may fail in any way, or never end, on a file whose structures have changed, so nothing is given to it before the seal was
checked. The first line names the format, the size of the block and the SHA-256 of what follows in it; the second is JSON. Among its
keys are `columns` and `scales`, where these lie (offset, shape), and `frame`, the SHA-256 of all bytes outside the block and the columns.
With these a segment is read without HDF5, in a third of the time.
"""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import IO, Any

from esp_core.runtime.errors import UserError
from esp_core.study.provenance import canonical

FORMAT = "esp-trajectories-1"
FIRST_LINE = 128
Place = tuple[int, list[int]]  # the offset in the file, and the shape

REBUILD = "delete it and the manifest.json beside it, then run the workflow again: only this shard is made anew"


def block_size(content: dict[str, Any]) -> int:
    """Bytes to leave for a block of `content`: a power of two, as HDF5 asks."""
    return max(512, 1 << (FIRST_LINE + len(canonical(content)) + 512).bit_length())


def seal(path: Path, content: dict[str, Any], places: dict[str, Place], size: int) -> None:
    """Write the block of `size` bytes of a finished file, whose columns and scales lie at `places`."""
    with path.open("r+b") as file:
        content = content | places | {"frame": _frame(file, size, *body(places["columns"]))}
        text = (canonical(content) + "\n").encode()
        rest = text + b" " * (size - FIRST_LINE - len(text))
        file.seek(0)
        file.write(f"{FORMAT} {size} {hashlib.sha256(rest).hexdigest()}".ljust(FIRST_LINE - 1).encode() + b"\n" + rest)


def body(columns: Place) -> tuple[int, int]:
    """Where columns of 16 bits begin and end."""
    offset, shape = columns
    return offset, offset + 2 * math.prod(shape)


def unseal(path: Path) -> dict[str, Any]:
    """The content of a shard's block. Raises UserError for a missing, foreign or truncated file and for changes outside the columns."""
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        raise UserError(f"{path}: no such shard; run the workflow for the manifest.json beside it: only this shard is made") from None
    with file:
        name, size, digest = _words(file.read(FIRST_LINE))
        if name != FORMAT or not size.isdecimal():
            raise UserError(f"{path}: not a shard of expert trajectories of this version; {REBUILD}")
        rest = file.read(int(size) - FIRST_LINE)
        if hashlib.sha256(rest).hexdigest() != digest:
            raise UserError(f"{path}: its header has changed since it was written; {REBUILD}")
        content: dict[str, Any] = json.loads(rest)
        start, end = body(content["columns"])
        if (length := os.fstat(file.fileno()).st_size) < end:
            raise UserError(f"{path}: truncated: its experts end at byte {end}, the file at {length}; {REBUILD}")
        if _frame(file, int(size), start, end) != content["frame"]:
            raise UserError(f"{path}: bytes beside its experts have changed since it was written; {REBUILD}")
    return content


def _words(line: bytes) -> tuple[str, str, str]:
    words = line.decode("ascii", "replace").split()
    return (words[0], words[1], words[2]) if len(words) == 3 else ("", "", "")


def _frame(file: IO[bytes], size: int, start: int, end: int) -> str:
    file.seek(size)
    sha = hashlib.sha256(file.read(start - size))
    file.seek(end)
    sha.update(file.read())
    return sha.hexdigest()

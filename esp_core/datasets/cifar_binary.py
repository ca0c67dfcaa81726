"""The binary distribution of CIFAR: records of one or two label bytes and 3,072 pixels, the planes R, G, B of 32 x 32.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, technical report, 2009, and the data's own page.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from esp_core.datasets.source import Chunk, Images, Part
from esp_core.runtime.errors import UserError

SIDE = 32
PIXELS = 3 * SIDE * SIDE
CHUNK = 2_000


def part(folder: Path, names: Sequence[str], label_bytes: int, size: int = SIDE) -> Part:
    """The records of the files `names`, each image averaged to `size` pixels.

    The last label byte is the class; the one before it, if any, the coarse class.
    """
    record = label_bytes + PIXELS
    paths = [folder / name for name in names]
    for path in paths:
        if path.stat().st_size % record:
            raise UserError(f"{path}: cut short, its {path.stat().st_size:,} bytes are not whole records of {record}; get it again")
    count = sum(path.stat().st_size for path in paths) // record
    return Part(count, _chunks(paths, record, size), str(folder))


def _chunks(paths: Sequence[Path], record: int, size: int) -> Iterator[Chunk]:
    labels = record - PIXELS
    for path in paths:
        with path.open("rb") as file:
            while len(data := np.fromfile(file, np.uint8, CHUNK * record)):
                rows = data.reshape(-1, record)
                coarse = rows[:, 0].astype(np.int64) if labels == 2 else None
                images = rows[:, labels:].reshape(-1, 3, SIDE, SIDE)
                yield Chunk(_averaged(images, size), rows[:, labels - 1].astype(np.int64), coarse)


def _averaged(images: Images, size: int) -> Images:
    """(n, 3, 32, 32) as (n, 3, size, size), each pixel the rounded mean of a square."""
    if size == SIDE:
        return images
    side = SIDE // size
    squares = images.reshape(-1, 3, size, side, size, side)
    return np.rint(squares.mean((3, 5), dtype=np.float32)).astype(np.uint8)

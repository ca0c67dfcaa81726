"""The binary distribution of CIFAR: records of one or two label bytes and 3,072 pixels, the planes R, G, B of 32 x 32.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, technical report, 2009, and the data's own
page, which states no licence.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from esp_core.datasets import official
from esp_core.datasets.source import Part, Request, Source
from esp_core.runtime.errors import UserError

SIDE = 32
PIXELS = 3 * SIDE * SIDE
Names = tuple[str, ...]


def source(train: Names, test: Names, classes: Names, labels: int, request: Request, *, size: Literal[32, 16, 8] = 32) -> Source:
    """The records of the files `train` and `test`, each with `labels` label bytes, of which the last is the class.

    size: pixels along a side, to which the images are averaged, for small studies
    """
    folder, origin = official.opened(request)
    first, last = (_part(folder, names, labels, size) for names in (train, test))
    return Source(classes, first, last, origin)


def _part(folder: Path, names: Names, labels: int, size: int) -> Part:
    records = np.concatenate([_records(folder / name, labels + PIXELS) for name in names])
    # Each pixel is the rounded mean of a square.
    squares = records[:, labels:].reshape(-1, 3, size, SIDE // size, size, SIDE // size)
    images = np.rint(squares.mean((3, 5), dtype=np.float32)).astype(np.uint8) if size < SIDE else squares.reshape(-1, 3, SIDE, SIDE)
    return Part(str(folder), images, records[:, labels - 1].astype(np.int64))


def _records(path: Path, size: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    if path.stat().st_size % size:
        raise UserError(f"{path}: cut short, its {path.stat().st_size:,} bytes are not whole records of {size}; get it again")
    return np.fromfile(path, np.uint8).reshape(-1, size)

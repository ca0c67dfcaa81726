"""SVHN, the cropped digits: 73,257 and 26,032 colour images of 32 x 32, without the `extra` ones.

Source: Y. Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, NIPS workshop, 2011.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from esp_core.datasets import official
from esp_core.datasets.source import Chunk, Part, Request, Source
from esp_core.runtime.errors import UserError

CLASSES = tuple(str(digit) for digit in range(10))
CHUNK = 2_000


def read(request: Request) -> Source:
    """The two .mat files: X is (32, 32, 3, N) uint8, y is (N, 1) with 1 to 9 for themselves and 10 for the digit 0."""
    found = official.opened(request)
    train, test = (_part(found.folder / f"{name}_32x32.mat") for name in ("train", "test"))
    return Source((3, 32, 32), CLASSES, train, test, found.origin)


def _part(path: Path) -> Part:
    from scipy.io import whosmat

    shapes = {name: shape for name, shape, _ in whosmat(path)}
    images, labels = shapes.get("X", ()), shapes.get("y", ())
    if len(images) != 4 or images[:3] != (32, 32, 3) or labels != (images[3], 1):
        raise UserError(f"{path}: X has shape {images} and y {labels}, not SVHN's (32, 32, 3, N) and (N, 1); get the cropped-digits file")
    return Part(images[3], _chunks(path), str(path))


def _chunks(path: Path) -> Iterator[Chunk]:
    from scipy.io import loadmat

    content = loadmat(path, variable_names=["X", "y"])
    labels = content["y"].ravel().astype(np.int64)
    labels[labels == 10] = 0
    images = content["X"].transpose(3, 2, 0, 1)
    for start in range(0, len(labels), CHUNK):
        yield Chunk(np.ascontiguousarray(images[start : start + CHUNK]), labels[start : start + CHUNK])

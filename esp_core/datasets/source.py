"""What a kind of dataset hands to the store: two parts, read once, chunk by chunk."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esp_core.runtime.errors import UserError

# Written into every prepared store, and asked for when one is opened.
FORMAT = "esp-dataset-1"

Remarks = Counter[str]  # how many files there are of what is said about them
Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


class Chunk(NamedTuple):
    """Some images, (n, C, H, W) uint8, with their class numbers (n,) and, where the dataset has two levels, coarse ones."""

    images: Images
    labels: Labels
    coarse: Labels | None = None


@dataclass(frozen=True)
class Part:
    """The training or the test images: `count` of them, which come in `chunks` once. `where` names their file or folder in messages."""

    count: int
    chunks: Iterator[Chunk]
    where: str


@dataclass(frozen=True)
class Source:
    """A dataset about to be written: shape (C, H, W), class names and the facts that say where it came from.

    `remarks` counts what is left out or changed, some of it only while the parts are read.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    train: Part
    test: Part
    origin: Mapping[str, Any]
    coarse_classes: tuple[str, ...] = ()
    remarks: Remarks = field(default_factory=Counter)


@dataclass(frozen=True)
class Request:
    """What every kind is told: the dataset's name, the study's seed, and where the official files were put."""

    dataset: str
    seed: int = 0
    files: Path | None = None


def check_labels(labels: Labels, classes: int, where: str, start: int = 0) -> None:
    """Raise UserError, naming the image, unless all of `labels` (n,) lie in [0, classes); the first is that of image `start`."""
    if len(wrong := np.flatnonzero((labels < 0) | (labels >= classes))):
        index = int(wrong[0])
        raise UserError(
            f"{where}: image {start + index} has label {labels[index]}, but there are {classes} classes, 0 to {classes - 1}; "
            "correct the label or name the missing classes"
        )

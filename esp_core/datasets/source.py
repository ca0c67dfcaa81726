"""What a kind of dataset returns: training and test images as arrays, with their origin."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esp_core.runtime.errors import UserError

TEST_FRACTION = 0.2  # of images without a test part

Remarks = Counter[str]  # number of files for each remark
Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """The training or the test images (N, C, H, W) with class numbers (N,). `where` names their file or folder in messages."""

    where: str
    images: Images
    labels: Labels


@dataclass(frozen=True)
class Source:
    """A dataset to be written. `origin` says where it came from; `remarks` counts what was left out or changed."""

    classes: tuple[str, ...]
    train: Part
    test: Part
    origin: Mapping[str, Any]
    remarks: Remarks = field(default_factory=Counter)


@dataclass(frozen=True)
class Request:
    """What every kind receives: the dataset's name, the study's seed, and the files.json of official files."""

    dataset: str
    seed: int = 0
    files: Path | None = None


def check_labels(labels: Labels, classes: Sequence[str], where: str) -> None:
    """Raise UserError, naming the first wrong image, unless all of `labels` (n,) are indices into `classes`."""
    if len(wrong := np.flatnonzero((labels < 0) | (labels >= len(classes)))):
        raise UserError(
            f"{where}: image {wrong[0]} has label {labels[wrong[0]]}, but there are {len(classes)} classes, 0 to {len(classes) - 1}; "
            "correct the label or name the missing classes"
        )


def numbered(labels: Labels, where: str) -> tuple[str, ...]:
    """Names 0, 1, … for the classes that occur. Raises UserError if there is a gap."""
    present = np.unique(labels)
    if len(gaps := np.flatnonzero(present != np.arange(len(present)))):
        missing, next_label = int(gaps[0]), present[gaps[0]]
        raise UserError(f"{where}: class {missing} has no image, the next label is {next_label}; number the classes from 0 without gaps")
    return tuple(str(label) for label in present)


def assembled(
    request: Request,
    classes: Sequence[str],
    train: Part,
    test: Part | None,
    fraction: float | None,
    origin: Mapping[str, Any],
    remarks: Remarks,
) -> Source:
    """A Source; without `test`, that `fraction` of each class of `train` becomes the test part, drawn with the study's seed.

    Raises UserError for a label that is not a class, a class of one image, and a fraction given with test images.
    """
    check_labels(train.labels, classes, train.where)
    if test and fraction is not None:
        raise UserError(f"dataset {request.dataset}: options.test_fraction has no meaning, since {test.where} holds test images; remove it")
    if test is None:
        import torch  # not needed for the official datasets

        from esp_core.datasets.splitting import stratified

        share = TEST_FRACTION if fraction is None else fraction
        halves = stratified(torch.from_numpy(train.labels), share, request.seed, "split", request.dataset, classes=classes)
        train, test = (Part(train.where, train.images[some], train.labels[some]) for some in (half.numpy() for half in halves))
        origin = {**origin, "test_fraction": share, "seed": request.seed}
    return Source(tuple(classes), train, test, origin, remarks=remarks)

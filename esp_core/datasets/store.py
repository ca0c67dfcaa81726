"""Write a prepared dataset as one HDF5 file, which `dataset.load` or plain h5py can open.

    train/images   uint8 (N, C, H, W)
    train/labels   int64 (N,)
    test/…         the same
    classes        names
    zca_mean       float32 (D,), and zca_matrix (D, D), D = C x H x W, if the images are to be whitened: (x - zca_mean) @ zca_matrix
                   for a flattened image x in [0, 1]
    attributes     format, name, mean and std (C,) in [0, 1], of the training images or as published, digest of the content, origin (JSON),
                   and the caller's provenance

Nothing is compressed, so that reading is fast.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import sqrt
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from esp_core.datasets import FORMAT
from esp_core.datasets.source import Images, Part, Source, check_labels
from esp_core.runtime import files
from esp_core.runtime.errors import UserError
from esp_core.study.budget import too_large_to_whiten
from esp_core.study.provenance import canonical, digest

BLOCK = 1_000  # images


def write(
    path: Path,
    name: str,
    source: Source,
    provenance: Mapping[str, Any],
    normalisation: Mapping[str, list[float]] | None = None,
    whiten: str | None = None,
) -> None:
    """Write `source` to `path`, atomically. `provenance` becomes attributes; its values are strings or numbers.

    `normalisation`: `mean` and `std`, a number per channel, instead of those of the training images. `whiten`: a kind of `whitening`,
    or None. The digest of whitened data depends on the images, not on how a machine rounds the matrix.

    Raises UserError for a label out of range, a class without training images, a wrong shape and a full or read-only disk.
    """
    _check(name, source)
    mean, std = moments(source.train.images)
    if 0.0 in std:
        raise UserError(f"{source.train.where}: channel {std.index(0.0)} has one value in every training image; leave that channel out")
    parts = {"train": source.train, "test": source.test}
    fitted, fit = _whitening(source.train, whiten) if whiten else ({}, {})
    size = sum(part.images.nbytes + 16 * len(part.labels) for part in parts.values()) + (1 << 20)  # for names and attributes
    size += sum(values.nbytes for values in fitted.values())
    with files.replacing(path) as temporary, _created(temporary, size) as file:
        digests = {key: _write_part(file.create_group(key), part) for key, part in parts.items()}
        file.create_dataset("classes", data=list(source.classes), dtype=h5py.string_dtype())
        for key, values in fitted.items():
            file.create_dataset(key, data=values)
        content = [source.train.images.shape[1:], source.classes, digests, *(dict(changed) for changed in (normalisation, fit) if changed)]
        file.attrs.update({"format": FORMAT, "name": name, "origin": canonical(source.origin), "digest": digest(canonical(content))})
        file.attrs.update({"mean": np.array(mean), "std": np.array(std), **(normalisation or {}), **provenance})


def _whitening(train: Part, kind: str) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
    """The arrays to store, and the setting of the fit."""
    if why := too_large_to_whiten(*train.images.shape[1:3]):
        raise UserError(f"{train.where}: {why}")
    from esp_core.datasets import whitening  # imports torch and kornia, which other data do not need

    return {key: values.numpy() for key, values in whitening.fit(train.images, kind).items()}, {kind: whitening.EPS}


def moments(images: Images) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, in [0, 1], from integer sums, which are exact."""
    sums, squares = np.zeros((2, images.shape[1]), np.int64)
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK]
        sums += block.sum((0, 2, 3), dtype=np.int64)
        squares += np.square(block, dtype=np.uint16).sum((0, 2, 3), dtype=np.int64)
    count = images[:, 0].size
    mean = [total / (255 * count) for total in sums.tolist()]
    pairs = zip(sums.tolist(), squares.tolist(), strict=True)  # Python's integers do not overflow
    return mean, [sqrt((count * square - total**2) / (255 * count) ** 2) for total, square in pairs]


def _check(name: str, source: Source) -> None:
    shape, classes = source.train.images.shape[1:], source.classes
    if shape[1] != shape[2]:
        raise UserError(
            f"{source.train.where}: images are {shape[1]} x {shape[2]}; only square ones can be condensed, so crop or resize them"
        )
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise UserError(f"{name}: two or more classes with different names are needed; these are {', '.join(classes) or 'none'}")
    for part in (source.train, source.test):
        if not len(part.images):
            raise UserError(f"{part.where}: no images")
        if part.images.shape[1:] != shape:
            raise UserError(f"{part.where}: images have shape {part.images.shape[1:]}, but those for training {shape}; make them alike")
        check_labels(part.labels, classes, part.where)
    if not (counts := np.bincount(source.train.labels, minlength=len(classes))).all():
        raise UserError(f"{source.train.where}: class {classes[counts.argmin()]} has no training image; add some or remove the class")


@contextmanager
def _created(path: Path, size: int) -> Iterator[h5py.File]:
    """A new HDF5 file with reserved disk space: before opening it, since closing it writes, and after, since opening truncates it."""
    files.reserve(path, size)
    with h5py.File(path, "w") as file:
        files.reserve(path, size)
        yield file
        file.flush()
        end = file.id.get_filesize()
    os.truncate(path, end)


def _write_part(group: h5py.Group, part: Part) -> dict[str, str]:
    """Write the arrays of a part; return the SHA-256 of each."""
    digests = {}
    for key, values in (("images", part.images), ("labels", part.labels.astype("<i8"))):
        values = np.ascontiguousarray(values)
        group.create_dataset(key, data=values)
        digests[key] = hashlib.sha256(values.data).hexdigest()
    return digests

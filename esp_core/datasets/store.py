"""The prepared store: one HDF5 file per dataset, written in chunks so that memory stays flat in the number of images.

    train/images   uint8 (N, C, H, W)
    train/labels   int64 (N,); train/coarse_labels too, where there are two levels
    test/…         the same
    classes        names; coarse_classes too, where there are two levels
    attributes     format, name, mean and std (C,) in [0, 1], of the training images or as published, digest of the content, origin (JSON),
                   seconds, peak_memory_bytes, and the caller's provenance

Nothing is compressed, so that opening costs no more than reading.
"""

import hashlib
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from math import prod, sqrt
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from esp_core.datasets.source import FORMAT, Chunk, Images, Part, Source, check_labels
from esp_core.runtime import files
from esp_core.runtime.errors import UserError
from esp_core.runtime.progress import Progress
from esp_core.study.provenance import canonical, digest


class Moments:
    """Per-channel sums of values and of squares as whole numbers, so that mean and std do not depend on the chunks."""

    def __init__(self, channels: int):
        self.count = 0
        self.sums = [0] * channels
        self.squares = [0] * channels

    def add(self, images: Images) -> None:
        """Count images (n, C, H, W)."""
        self.count += images[:, 0].size
        sums = images.sum(axis=(0, 2, 3), dtype=np.uint64)
        squares = np.square(images, dtype=np.uint16).sum(axis=(0, 2, 3), dtype=np.uint64)
        self.sums = [a + int(b) for a, b in zip(self.sums, sums, strict=True)]
        self.squares = [a + int(b) for a, b in zip(self.squares, squares, strict=True)]

    def mean(self) -> list[float]:
        """In [0, 1], a number for each channel."""
        return [float(Fraction(total, 255 * self.count)) for total in self.sums]

    def std(self) -> list[float]:
        """Of the population, in [0, 1]."""
        return [
            sqrt(Fraction(self.count * square - total**2, (255 * self.count) ** 2))
            for total, square in zip(self.sums, self.squares, strict=True)
        ]


def write(
    path: Path, name: str, source: Source, provenance: Mapping[str, Any], normalisation: Mapping[str, list[float]] | None = None
) -> None:
    """Write `source` to `path`, whole or not at all. `provenance` becomes attributes; its values are strings or numbers.

    `normalisation`: `mean` and `std`, a number for each channel, in place of those of the training images.

    Raises UserError for a label out of range, a class without training images, a wrong shape and a full or read-only disk.
    """
    started = time.perf_counter()
    with files.replacing(path) as temporary, _created(temporary, _size(source)) as file:
        _fill(file, name, source, normalisation)
        file.attrs.update({**provenance, "seconds": time.perf_counter() - started, "peak_memory_bytes": _peak_memory()})


@contextmanager
def _created(path: Path, size: int) -> Iterator[h5py.File]:
    """A new HDF5 file whose disk space is claimed: before it is opened, since closing it writes, and after, since opening empties it."""
    files.reserve(path, size)
    with h5py.File(path, "w") as file:
        files.reserve(path, size)
        yield file
        file.flush()
        end = file.id.get_filesize()
    os.truncate(path, end)


def _size(source: Source) -> int:
    """Bytes of all arrays, and a margin for names and attributes."""
    return (source.train.count + source.test.count) * (prod(source.shape) + 16) + (1 << 20)


def _fill(file: h5py.File, name: str, source: Source, normalisation: Mapping[str, list[float]] | None) -> None:
    _check(name, source)
    moments = Moments(source.shape[0])
    digests = {"train": _fill_part(file.create_group("train"), f"{name}: train", source, source.train, moments)}
    digests["test"] = _fill_part(file.create_group("test"), f"{name}: test", source, source.test, None)
    std = moments.std()
    if 0.0 in std:
        raise UserError(f"{source.train.where}: channel {std.index(0.0)} has one value in every training image; leave that channel out")
    _names(file, "classes", source.classes)
    if source.coarse_classes:
        _names(file, "coarse_classes", source.coarse_classes)
    file.attrs.update(
        {
            "format": FORMAT,
            "name": name,
            "mean": np.array(normalisation["mean"] if normalisation else moments.mean()),
            "std": np.array(normalisation["std"] if normalisation else std),
            "origin": canonical(source.origin),
            "digest": digest(canonical([source.shape, source.classes, digests, *([dict(normalisation)] if normalisation else [])])),
        }
    )


def _check(name: str, source: Source) -> None:
    _, height, width = source.shape
    if height != width:
        raise UserError(f"{source.train.where}: images are {height} x {width}; only square ones can be condensed, so crop or resize them")
    if len(source.classes) < 2 or len(set(source.classes)) != len(source.classes):
        raise UserError(f"{name}: two or more classes with different names are needed; these are {', '.join(source.classes) or 'none'}")
    for part in (source.train, source.test):
        if part.count == 0:
            raise UserError(f"{part.where}: no images")


def _fill_part(group: h5py.Group, label: str, source: Source, part: Part, moments: Moments | None) -> dict[str, str]:
    """Write a part's chunks; return the SHA-256 of its images and of its labels."""
    images = group.create_dataset("images", (part.count, *source.shape), np.uint8)
    targets = {"labels": group.create_dataset("labels", part.count, np.int64)}
    if source.coarse_classes:
        targets["coarse_labels"] = group.create_dataset("coarse_labels", part.count, np.int64)
    hashes = {key: hashlib.sha256() for key in ("images", *targets)}
    seen = np.zeros(len(source.classes), np.int64)
    progress = Progress(label, part.count, unit="images")
    start = 0
    for chunk in part.chunks:
        _check_chunk(chunk, source, part, start)
        if (stop := start + len(chunk.images)) > part.count:
            raise UserError(f"{part.where}: more images than the {part.count:,} that were counted; the data changed, so run this again")
        images[start:stop] = chunk.images
        hashes["images"].update(np.ascontiguousarray(chunk.images).data)
        for key, values in zip(targets, (chunk.labels, chunk.coarse), strict=False):
            targets[key][start:stop] = values
            hashes[key].update(np.ascontiguousarray(values, "<i8").data)
        if moments is not None:
            moments.add(chunk.images)
        seen += np.bincount(chunk.labels, minlength=len(seen))
        progress.step(by=stop - start)
        start = stop
    if start != part.count:
        raise UserError(f"{part.where}: {start:,} images were read where {part.count:,} were counted; the data changed, so run this again")
    if moments is not None and not seen.all():
        raise UserError(f"{part.where}: class {source.classes[int(seen.argmin())]} has no training image; add some or remove the class")
    return {key: value.hexdigest() for key, value in hashes.items()}


def _check_chunk(chunk: Chunk, source: Source, part: Part, start: int) -> None:
    if chunk.images.shape[1:] != source.shape:
        raise UserError(f"{part.where}: image {start} has shape {chunk.images.shape[1:]} where {source.shape} is expected")
    check_labels(chunk.labels, len(source.classes), part.where, start)
    if chunk.coarse is not None:
        check_labels(chunk.coarse, len(source.coarse_classes), part.where, start)


def _names(file: h5py.File, key: str, names: tuple[str, ...]) -> None:
    file.create_dataset(key, data=list(names), dtype=h5py.string_dtype())


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

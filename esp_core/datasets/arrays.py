"""A user's own images and labels as arrays in one file. `npz` and `hdf5` open the file."""

import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from esp_core.datasets import folders
from esp_core.datasets.official import sha256
from esp_core.datasets.source import Images, Part, Remarks, Request, Source, assembled, numbered
from esp_core.runtime.errors import UserError


def _usual(part: str) -> tuple[tuple[str, str], ...]:
    return (f"{part}_images", f"{part}_labels"), (f"{part}/images", f"{part}/labels"), (f"x_{part}", f"y_{part}")


TRAIN = (*_usual("train"), ("images", "labels"))
TEST = _usual("test")
VALIDATION = _usual("val") + _usual("valid") + _usual("validation")
COLOURS = (1, 3)
# What NumPy and h5py raise for damaged files.
DAMAGED = (
    *(OSError, EOFError, RuntimeError, KeyError, TypeError, ValueError, OverflowError, MemoryError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)

Arrays = Mapping[str, Any]  # by name, of an open file; np.asarray reads one


def source(
    opened: Callable[[Path], AbstractContextManager[Arrays]],
    request: Request,
    *,
    path: str,
    images: str | None = None,
    labels: str | None = None,
    test_images: str | None = None,
    test_labels: str | None = None,
    classes: Sequence[str] | None = None,
    layout: Literal["NHWC", "NCHW"] | None = None,
    test_fraction: Annotated[float, "> 0, < 1"] | None = None,
) -> Source:
    """Images uint8, or floating-point in [0, 1], as (N, H, W), (N, H, W, C) or (N, C, H, W), and labels (N,) or (N, 1) from 0.

    Arrays are found by the usual names, MedMNIST's included, or by those given. Validation images serve as test images if there are no
    others. Raises UserError.

    path: the file
    images: name of the array of training images
    labels: name of the array of their labels
    test_images: name of the array of test images
    test_labels: name of the array of their labels
    classes: names of the classes, in the order of their numbers; the numbers unless given
    layout: where the channels are, if the shape leaves it open
    test_fraction: the part of each class that becomes the test images, with the study's seed, where the file holds none; 0.2 unless given
    """
    file = folders.located(path)
    if not file.is_file():
        raise UserError(f"{file}: no such file; correct options.path of dataset {request.dataset}")
    with reading(file), opened(file) as content:
        found = _find(content, file, (images, labels), TRAIN, "images")
        given = _find(content, file, (test_images, test_labels), [pair for pair in TEST + VALIDATION if pair != found], "test_images")
        if found is None:
            raise UserError(f"{file}: holds {', '.join(content) or 'nothing'}; name the arrays in options.images and options.labels")
        whole = _part(content, file, found, layout)
        test = _part(content, file, given, layout) if given else None
        used = [*found, *(given or ())]
        remarks: Remarks = Counter({f"array left out: {name}": 1 for name in sorted({*content} - {*used})})
        if test and given in VALIDATION:
            remarks[f"images of {given[0]} taken as test images, since there are no others"] = len(test.labels)
    names = tuple(str(name) for name in classes) if classes else numbered(whole.labels, whole.where)
    origin = {"from": str(file), "sha256": sha256(file), "arrays": used}
    return assembled(request, names, whole, test, test_fraction, origin, remarks)


@contextmanager
def reading(where: str | Path) -> Iterator[None]:
    """Turn what NumPy and h5py raise for a damaged file into a UserError."""
    try:
        yield
    except DAMAGED as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{where}: damaged, cut short, pickled or of another format ({text}); save plain arrays again") from error


def _find(
    content: Arrays, file: Path, given: tuple[str | None, str | None], usual: Sequence[tuple[str, str]], option: str
) -> tuple[str, str] | None:
    """The names of an image array and a label array, or None."""
    if given == (None, None):
        return next((pair for pair in usual if set(pair) <= set(content)), None)
    images, labels = given
    if images is None or labels is None:
        raise UserError(f"{file}: options.{option} and options.{option.replace('images', 'labels')} go together; give both")
    for name in (images, labels):
        if name not in content:
            raise UserError(f"{file}: has no array {name}, only {', '.join(content)}; correct the options")
    return images, labels


def _part(content: Arrays, file: Path, names: tuple[str, str], layout: str | None) -> Part:
    where = f"{file}: {names[0]}"
    with reading(where):
        images = np.asarray(content[names[0]])
    with reading(f"{file}: {names[1]}"):
        labels = targets = np.asarray(content[names[1]])
    if 0 in images.shape or 0 in labels.shape:
        raise UserError(f"{where} has shape {images.shape}, {names[1]} {labels.shape}; there are no images in it")
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim != 1 or targets.dtype.kind not in "iu":
        raise UserError(f"{file}: {names[1]} is {labels.dtype} of shape {labels.shape}; one whole number for each image is needed")
    if images.shape[:1] != targets.shape:
        raise UserError(f"{where} has shape {images.shape}, {names[1]} {labels.shape}; their first sizes must agree")
    return Part(where, as_uint8(_channels_first(images, where, layout), where), targets.astype(np.int64))


def _channels_first(images: NDArray[Any], where: str, layout: str | None) -> NDArray[Any]:
    """`images` as (N, C, H, W)."""
    shape = images.shape
    if len(shape) == 3:
        return images[:, None]
    if len(shape) != 4:
        raise UserError(f"{where}: shape {shape}; (N, H, W), (N, H, W, C) or (N, C, H, W) is needed")
    first, last = shape[1] in COLOURS, shape[3] in COLOURS
    if layout is None and first == last:
        raise UserError(f"{where}: shape {shape} does not tell where the channels are; set options.layout to NHWC or NCHW")
    return images if layout == "NCHW" or (layout is None and first) else images.transpose(0, 3, 1, 2)


def as_uint8(images: NDArray[Any], where: str) -> Images:
    if images.dtype == np.uint8:
        return images
    highest = 1 if images.dtype.kind == "f" else 255
    if images.dtype.kind not in "fiu" or not ((images >= 0) & (images <= highest)).all():
        span = f"from {images.min()} to {images.max()}" if images.dtype.kind in "fiu" else "and no numbers"
        raise UserError(f"{where}: values are {images.dtype} {span}; uint8, or floating-point numbers in [0, 1], are needed")
    return np.rint(images * (255 // highest)).astype(np.uint8)

"""Images and labels that a user keeps as arrays in one file, read block by block. `npz` and `hdf5` bring the file format."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from esp_core.datasets import folders
from esp_core.datasets.source import Chunk, Images, Labels, Part, Request, Source, check_labels
from esp_core.datasets.splitting import made_test_part, refuse_fraction
from esp_core.datasets.verifying import sha256
from esp_core.runtime.errors import UserError

TRAIN = (("train_images", "train_labels"), ("train/images", "train/labels"), ("x_train", "y_train"), ("images", "labels"))
TEST = (("test_images", "test_labels"), ("test/images", "test/labels"), ("x_test", "y_test"))
VALIDATION = tuple(
    pair
    for name in ("val", "valid", "validation")
    for pair in ((f"{name}_images", f"{name}_labels"), (f"{name}/images", f"{name}/labels"), (f"x_{name}", f"y_{name}"))
)
BLOCK_BYTES = 1 << 24
LABELS = 1 << 20  # read at a time
COLOURS = (1, 3)


class Array(Protocol):
    """An array in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def blocks(self, rows: int) -> Iterator[NDArray[Any]]:
        """The array in order, `rows` of its first axis at a time."""
        ...


class Container(Protocol):
    """A file of named arrays. Its constructor and `array` raise UserError for a damaged file."""

    def __init__(self, path: Path): ...
    def names(self) -> Sequence[str]: ...
    def array(self, name: str) -> Array: ...


def source(
    open_container: Callable[[Path], Container],
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

    Arrays are found under the usual names, MedMNIST's among them, or those given. Validation images are the test images where there
    are no others. Raises UserError.

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
    container = open_container(file)
    found = _find(container, file, (images, labels), TRAIN, "images")
    given = _find(container, file, (test_images, test_labels), [pair for pair in TEST + VALIDATION if pair != found], "test_images")
    if found is None:
        raise UserError(f"{file}: holds {', '.join(container.names()) or 'nothing'}; name the arrays in options.images and options.labels")
    whole = _pair(container, file, found, layout)
    names = tuple(str(name) for name in classes) if classes else numbered(whole.labels, whole.where)
    check_labels(whole.labels, len(names), whole.where)
    used = [*found, *(given or ())]
    origin = {"from": str(file), "sha256": sha256(file), "arrays": used}
    remarks = Counter({f"array left out: {name}": 1 for name in sorted({*container.names()} - {*used})})
    if given:
        refuse_fraction(test_fraction, request, str(file))
        test = _pair(container, file, given, layout).part()
        remarks[f"images of {given[0]} taken as test images, since there are no others"] = test.count * (given in VALIDATION)
        return Source(whole.shape, names, whole.part(), test, origin, remarks=remarks)
    kept, held, facts = made_test_part(whole.labels, test_fraction, request, names)
    return Source(whole.shape, names, whole.part(kept), whole.part(held), {**origin, **facts}, remarks=remarks)


def _find(
    container: Container, file: Path, given: tuple[str | None, str | None], usual: Sequence[tuple[str, str]], option: str
) -> tuple[str, str] | None:
    """The names of an array of images and one of labels, or None."""
    names = container.names()
    if given == (None, None):
        return next((pair for pair in usual if set(pair) <= set(names)), None)
    images, labels = given
    if images is None or labels is None:
        raise UserError(f"{file}: options.{option} and options.{option.replace('images', 'labels')} go together; give both")
    for name in (images, labels):
        if name not in names:
            raise UserError(f"{file}: has no array {name}, only {', '.join(names)}; correct the options")
    return images, labels


@dataclass(frozen=True)
class Pair:
    """An array of images with its labels (N,); `axes` brings images to (n, C, H, W), `where` names them in messages."""

    where: str
    images: Array
    labels: Labels
    axes: Callable[[Images], Images]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.axes(np.zeros((1, *self.images.shape[1:]), np.uint8)).shape[1:]
        return channels, height, width

    def part(self, indices: NDArray[np.int64] | None = None) -> Part:
        """The images at `indices`, or all, in their order in the file."""
        chosen = np.ones(len(self.labels), bool) if indices is None else np.isin(np.arange(len(self.labels)), indices)
        return Part(int(chosen.sum()), self._chunks(chosen), self.where)

    def _chunks(self, chosen: NDArray[np.bool_]) -> Iterator[Chunk]:
        row_bytes = self.images.dtype.itemsize * int(np.prod(self.images.shape[1:]))
        start = 0
        for block in self.images.blocks(max(1, BLOCK_BYTES // row_bytes)):
            stop = start + len(block)
            if (some := chosen[start:stop]).any():
                yield Chunk(self.axes(_as_uint8(block[some], self.where)), self.labels[start:stop][some])
            start = stop


def _pair(container: Container, file: Path, names: tuple[str, str], layout: str | None) -> Pair:
    images, labels = container.array(names[0]), container.array(names[1])
    if 0 in images.shape or 0 in labels.shape:
        raise UserError(f"{file}: {names[0]} has shape {images.shape}, {names[1]} {labels.shape}; there are no images in it")
    targets: NDArray[Any] = np.concatenate(list(labels.blocks(LABELS))) if labels.shape else np.zeros(())
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim != 1 or targets.dtype.kind not in "iu":
        raise UserError(f"{file}: {names[1]} is {labels.dtype} of shape {labels.shape}; one whole number for each image is needed")
    if not images.shape or images.shape[0] != len(targets):
        raise UserError(f"{file}: {names[0]} has shape {images.shape}, {names[1]} {labels.shape}; their first sizes must agree")
    where = f"{file}: {names[0]}"
    return Pair(where, images, targets.astype(np.int64), _axes(images.shape, where, layout))


def _axes(shape: tuple[int, ...], where: str, layout: str | None) -> Callable[[Images], Images]:
    """How images of `shape` become (n, C, H, W)."""
    if len(shape) == 3:
        return lambda images: images[:, None]
    if len(shape) != 4:
        raise UserError(f"{where}: shape {shape}; (N, H, W), (N, H, W, C) or (N, C, H, W) is needed")
    first, last = shape[1] in COLOURS, shape[3] in COLOURS
    if layout is None and first == last:
        raise UserError(f"{where}: shape {shape} does not tell where the channels are; set options.layout to NHWC or NCHW")
    if layout == "NCHW" or (layout is None and first):
        return lambda images: images
    return lambda images: images.transpose(0, 3, 1, 2)


def _as_uint8(block: NDArray[Any], where: str) -> Images:
    if block.dtype == np.uint8:
        return block
    highest = 1 if block.dtype.kind == "f" else 255
    if block.dtype.kind not in "fiu" or not ((block >= 0) & (block <= highest)).all():
        span = f"from {block.min()} to {block.max()}" if block.dtype.kind in "fiu" else "and no numbers"
        raise UserError(f"{where}: values are {block.dtype} {span}; uint8, or floating-point numbers in [0, 1], are needed")
    values: Images = np.rint(block * (255 // highest)).astype(np.uint8)
    return values


def numbered(labels: Labels, where: str) -> tuple[str, ...]:
    """Names 0, 1, … for the classes that occur. Raises UserError where one of them has no image."""
    present = np.unique(labels)
    if len(gaps := np.flatnonzero(present != np.arange(len(present)))):
        missing, next_label = int(gaps[0]), present[gaps[0]]
        raise UserError(f"{where}: class {missing} has no image, the next label is {next_label}; number the classes from 0 without gaps")
    return tuple(str(label) for label in present)

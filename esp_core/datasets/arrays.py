"""Images and labels that a user keeps as arrays in one file, read block by block. `npz` and `hdf5` bring the file format."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from esp_core.datasets.source import Chunk, Images, Labels, Part, Request, Source, check_labels
from esp_core.datasets.splitting import made_test_part, refuse_fraction
from esp_core.datasets.verifying import sha256
from esp_core.errors import UserError

TRAIN = (("train_images", "train_labels"), ("train/images", "train/labels"), ("x_train", "y_train"), ("images", "labels"))
TEST = (("test_images", "test_labels"), ("test/images", "test/labels"), ("x_test", "y_test"))
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


def read(
    open_container: Callable[[Path], Container],
    request: Request,
    *,
    path: str,
    images: str | None = None,
    labels: str | None = None,
    test_images: str | None = None,
    test_labels: str | None = None,
    classes: Sequence[str] | None = None,
    layout: str | None = None,
    test_fraction: float | None = None,
) -> Source:
    """Images uint8, or floating-point in [0, 1], as (N, H, W), (N, H, W, C) or (N, C, H, W), and labels (N,) or (N, 1) from 0.

    Arrays are found under the usual names, MedMNIST's among them (its validation images are left out), or those given. Where no
    test images are there, `test_fraction`, 0.2 unless given, of each class is taken for them with the study's seed. `layout`, NHWC
    or NCHW, is needed only where the shape leaves it open. Raises UserError.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"{file}: no such file; correct options.path of dataset {request.dataset}")
    container = open_container(file)
    found = _find(container, file, (images, labels), TRAIN, "images")
    given = _find(container, file, (test_images, test_labels), TEST, "test_images")
    if found is None:
        raise UserError(f"{file}: holds {', '.join(container.names()) or 'nothing'}; name the arrays in options.images and options.labels")
    where, form, array, targets = _pair(container, file, found, layout)
    names = tuple(classes) if classes else numbered(targets, where)
    check_labels(targets, len(names), where)
    shape = form(np.zeros((1, *array.shape[1:]), np.uint8)).shape[1:]
    origin = {"from": str(file), "sha256": sha256(file), "arrays": [*found, *(given or ())]}
    if given:
        refuse_fraction(test_fraction, request, str(file))
        return Source(shape, names, _part(where, form, array, targets), _part(*_pair(container, file, given, layout)), origin)
    kept, held, facts = made_test_part(targets, test_fraction, request, names)
    train, test = (_part(where, form, array, targets, indices) for indices in (kept, held))
    return Source(shape, names, train, test, {**origin, **facts})


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


Form = Callable[[NDArray[Any]], Images]


def _pair(container: Container, file: Path, names: tuple[str, str], layout: str | None) -> tuple[str, Form, Array, Labels]:
    where = f"{file}: {names[0]}"
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
    return where, _form(images, where, layout), images, targets.astype(np.int64)


def _form(images: Array, where: str, layout: str | None) -> Form:
    """How blocks of `images` become uint8 (n, C, H, W)."""
    shape = images.shape
    if len(shape) == 3:
        return lambda block: _as_uint8(block, where)[:, None]
    if len(shape) != 4:
        raise UserError(f"{where}: shape {shape}; (N, H, W), (N, H, W, C) or (N, C, H, W) is needed")
    first, last = shape[1] in COLOURS, shape[3] in COLOURS
    if layout is None and first == last:
        raise UserError(f"{where}: shape {shape} does not tell where the channels are; set options.layout to NHWC or NCHW")
    if layout not in (None, "NHWC", "NCHW"):
        raise UserError(f"options.layout is {layout!r}; use NHWC or NCHW")
    if layout == "NCHW" or (layout is None and first):
        return lambda block: _as_uint8(block, where)
    return lambda block: np.ascontiguousarray(_as_uint8(block, where).transpose(0, 3, 1, 2))


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


def _part(where: str, form: Form, array: Array, labels: Labels, indices: NDArray[np.int64] | None = None) -> Part:
    chosen = np.ones(len(labels), bool) if indices is None else np.isin(np.arange(len(labels)), indices)
    return Part(int(chosen.sum()), _chunks(form, array, labels, chosen), where)


def _chunks(form: Form, array: Array, labels: Labels, chosen: NDArray[np.bool_]) -> Iterator[Chunk]:
    row_bytes = array.dtype.itemsize * int(np.prod(array.shape[1:]))
    start = 0
    for block in array.blocks(max(1, BLOCK_BYTES // row_bytes)):
        stop = start + len(block)
        if (some := chosen[start:stop]).any():
            yield Chunk(form(block[some]), labels[start:stop][some])
        start = stop

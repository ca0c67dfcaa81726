"""Images given in Python: arrays with labels, or a map-style torch Dataset."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from esp_core.datasets.arrays import as_uint8
from esp_core.datasets.source import Images, Labels
from esp_core.runtime.errors import UserError
from esp_core.runtime.progress import Progress


def images_and_labels(
    images: Any, labels: ArrayLike | None = None, name: str = "", *, floats: bool = False
) -> tuple[NDArray[Any], Labels, tuple[str, ...]]:
    """Images (n, C, H, W), labels (n,) int64 and, from a torch Dataset, the names of the classes.

    Without `labels`, `images` is such a Dataset; its items are pairs of an image, which is a Pillow image or (C, H, W) uint8 or in [0, 1],
    and a label. Its images become uint8. `floats`: arrays of images may also be floating-point. `name` is a prefix for argument names in
    messages. Raises UserError for anything else.
    """
    names: tuple[str, ...] = ()
    if labels is None:
        names = _names(images)
        images, labels = _walked(images, f"{name}images")
    pixels, targets = _array(f"{name}images", images), _array(f"{name}labels", labels)
    wanted = "uint8 or floating-point" if floats else "uint8"
    if (
        not (pixels.dtype == np.uint8 or (floats and pixels.dtype.kind == "f"))
        or pixels.ndim != 4
        or pixels.shape[1] not in (1, 3)
        or 0 in pixels.shape
    ):
        raise UserError(f"{name}images: {pixels.dtype} {pixels.shape}; give {wanted} (n, C, H, W) with one or three channels")
    if targets.dtype.kind not in "iu" or targets.shape != pixels.shape[:1]:
        count = f"each of the {len(pixels)} images"
        raise UserError(f"{name}labels: {targets.dtype} {targets.shape}; give a whole number for {count}, from 0 on")
    if targets.min() < 0:
        raise UserError(f"{name}labels: {targets.min()} is negative; number the classes from 0 without gaps")
    return pixels, targets.astype(np.int64), names


def scaled(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Images as float32; uint8 [0, 255] becomes [0, 1]. Raises UserError for values that are not finite."""
    values = pixels.astype(np.float32) / np.float32(255 if pixels.dtype == np.uint8 else 1)
    if not np.isfinite(values).all():
        raise UserError("images: some values are infinite or no numbers; correct them")
    return values


def _walked(dataset: Any, name: str) -> tuple[Images, Labels]:
    """All images and labels of a torch Dataset."""
    if isinstance(dataset, np.ndarray | list | tuple) or hasattr(dataset, "dtype") or not hasattr(dataset, "__getitem__"):
        raise UserError(
            f"{name}: {type(dataset).__name__} without labels; give labels too, or a map-style torch Dataset of images and labels"
        )
    count = len(dataset)
    labels, progress = np.empty(count, np.int64), Progress(name, count, unit="images")
    found: Images = np.empty((0, 0, 0, 0), np.uint8)
    for index in range(count):
        where = f"{name}[{index}]"
        try:
            image, label, *_ = dataset[index]
            labels[index] = int(label)
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: no pair of an image and a whole number ({error}); give a dataset for classification") from None
        pixels = _pixels(image, where)
        if not index:
            found = np.empty((count, *pixels.shape), np.uint8)
        if pixels.shape != found.shape[1:]:
            raise UserError(f"{where}: {pixels.shape}, but {name}[0] is {found.shape[1:]}; resize in the dataset's transform")
        found[index] = pixels
        progress.step()
    return found, labels


def _pixels(image: Any, where: str) -> Images:
    """One image as uint8 (C, H, W)."""
    if isinstance(image, Image.Image):
        if image.mode not in ("L", "RGB"):
            raise UserError(f"{where}: a picture of mode {image.mode}; turn it into L or RGB in the dataset's transform")
        return np.asarray(image).reshape(*image.size[::-1], -1).transpose(2, 0, 1)
    values = _array(where, image)
    return as_uint8(values[None] if values.ndim == 2 else values, where)


def _names(dataset: Any) -> tuple[str, ...]:
    names = getattr(dataset, "classes", ())
    return tuple(names) if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) else ()


def _array(name: str, values: Any) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name}: no array ({' '.join(str(error).split())}); give one of NumPy's, or a tensor on the CPU") from None

"""Image files as uint8 arrays: decoded by Pillow, rotated upright, composed on white, converted to one mode and square size, or refused."""

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from esp_core.datasets.source import Images, Remarks
from esp_core.runtime.errors import UserError
from esp_core.runtime.progress import Progress

CHANNELS = {"L": 1, "RGB": 3}
# 8-bit modes that Pillow converts to grey or colour and that lose at most transparency.
CONVERTIBLE = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"})


@dataclass(frozen=True)
class Form:
    """The form of every image: `mode` L or RGB, `size` (W, H) in pixels.

    Without `convert` or `resize`, an image of another mode or size is refused; `like` names the image that set the form.
    Resizing scales the shorter side, with antialiasing, and crops the centre.
    """

    mode: str
    size: tuple[int, int]
    convert: bool
    resize: bool
    like: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return CHANNELS[self.mode], self.size[1], self.size[0]

    def array(self, image: Image.Image, name: str, notes: list[str]) -> Images:
        """`image` as (C, H, W), composed on white. Raises UserError, naming the image `name`, if it does not fit."""
        if self.convert and image.mode not in CONVERTIBLE:
            raise UserError(f"{name}: mode {image.mode} has more than 8 bits a channel; save it as an 8-bit image")
        if image.mode != self.mode and not self.convert:
            raise UserError(f"{name}: mode {image.mode}, but {self.like} is {self.mode}; set options.mode to RGB or L to convert all")
        image = _on_white(image, notes).convert(self.mode)
        if self.resize:
            image = ImageOps.fit(image, self.size, Image.Resampling.BICUBIC)
        if image.size != self.size:
            here, wanted = ("{} x {}".format(*size) for size in (image.size, self.size))
            raise UserError(f"{name}: {here} pixels, but {self.like} has {wanted}; set options.size to resize all")
        return np.asarray(image).reshape(*self.shape[1:], -1).transpose(2, 0, 1)


def form_like(image: Image.Image, name: str, mode: str | None, size: int | None) -> Form:
    """The form that options `mode` and `size` ask for; None takes it from `image`. Raises UserError if the mode of `image` is unusable."""
    if mode is None and image.mode not in CHANNELS:
        raise UserError(f"{name}: mode {image.mode}; set options.mode to RGB or L to convert all images")
    return Form(mode or image.mode, (size, size) if size else image.size, convert=mode is not None, resize=size is not None, like=name)


def opened(path: Path, notes: list[str]) -> Image.Image:
    """The image in a file, rotated by its EXIF data; the first of several frames. Raises UserError if it cannot be decoded."""
    with _decoding(str(path)), Image.open(path) as image:
        if getattr(image, "is_animated", False):
            notes.append("images with several frames, of which the first is taken")
        return ImageOps.exif_transpose(image)


def images(paths: Sequence[Path], form: Form, where: str, remarks: Remarks) -> Images:
    """Image files as (n, C, H, W), decoded by several threads; `remarks` counts those that are changed."""
    notes: list[str] = []
    made = stacked(lambda i: form.array(opened(paths[i], notes), str(paths[i]), notes), len(paths), form, where, os.cpu_count() or 1)
    remarks.update(sorted(notes))
    return made


def stacked(decode: Callable[[int], Images], count: int, form: Form, where: str, threads: int = 1) -> Images:
    """The images (C, H, W) that `decode` returns for 0 to `count` - 1, as one array; shows progress."""
    made, progress = np.empty((count, *form.shape), np.uint8), Progress(where, count, unit="images")

    def put(index: int) -> None:
        made[index] = decode(index)

    with ThreadPool(min(8, threads)) as pool:
        for _ in pool.imap(put, range(count), chunksize=64):
            progress.step()
    return made


def _on_white(image: Image.Image, notes: list[str]) -> Image.Image:
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema() == (255, 255):
        return image
    notes.append("images with transparency, laid on white")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), layer)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise UserError(f"{name}: not a readable image ({type(error).__name__}); repair or remove it") from error

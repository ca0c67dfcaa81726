"""Image files as uint8 arrays: decoded by Pillow, turned upright, laid on white, brought to one mode and one square size, or refused."""

import os
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from esp_core.datasets.source import Chunk, Images, Remarks
from esp_core.runtime.errors import UserError

CHANNELS = {"L": 1, "RGB": 3}
CHUNK = 512
# 8-bit modes that Pillow turns into grey or colour without losing more than transparency.
CONVERTIBLE = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"})


@dataclass(frozen=True)
class Form:
    """What every image becomes: `mode` L or RGB, `width` and `height` in pixels.

    Where `convert` or `resize` is off, an image that is not already so is refused, and `like` names the image that set the form.
    Resizing scales the shorter side to `width`, antialiased, and crops the middle.
    """

    mode: str
    width: int
    height: int
    convert: bool
    resize: bool
    like: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return CHANNELS[self.mode], self.height, self.width

    def array(self, image: Image.Image, name: str, remarks: Remarks) -> Images:
        """`image` as (C, H, W), its transparency laid on white. Raises UserError, naming the image `name`, where it does not fit."""
        if self.convert and image.mode not in CONVERTIBLE:
            raise UserError(f"{name}: mode {image.mode} has more than 8 bits a channel; save it as an 8-bit image")
        if image.mode != self.mode and not self.convert:
            raise UserError(f"{name}: mode {image.mode}, but {self.like} is {self.mode}; set options.mode to RGB or L to convert all")
        image = _on_white(image, remarks).convert(self.mode)
        if self.resize:
            image = ImageOps.fit(image, (self.width, self.height), Image.Resampling.BICUBIC)
        if image.size != (self.width, self.height):
            width, height = image.size
            raise UserError(
                f"{name}: {width} x {height} pixels, but {self.like} has {self.width} x {self.height}; set options.size to resize all"
            )
        return np.asarray(image).reshape(self.height, self.width, -1).transpose(2, 0, 1)


def form_like(image: Image.Image, name: str, mode: str | None, size: int | None) -> Form:
    """The form that options `mode` and `size` ask for; where one is None, that of `image`. Raises UserError where that is of no use."""
    if mode is None and image.mode not in CHANNELS:
        raise UserError(f"{name}: mode {image.mode}; set options.mode to RGB or L to convert all images")
    width, height = (size, size) if size else image.size
    return Form(mode or image.mode, width, height, convert=mode is not None, resize=size is not None, like=name)


def opened(path: Path, remarks: Remarks | None = None) -> Image.Image:
    """The image in a file, upright as its EXIF data say; of several frames the first. Raises UserError where it cannot be decoded."""
    with _decoding(str(path)), Image.open(path) as image:
        if remarks is not None and getattr(image, "is_animated", False):
            remarks["images with several frames, of which the first is taken"] += 1
        return ImageOps.exif_transpose(image)


def chunks(paths: Sequence[Path], labels: Sequence[int], form: Form, remarks: Remarks) -> Iterator[Chunk]:
    """Images and their labels in order, decoded by a few threads; `remarks` counts those that are not taken as they stand."""

    def decoded(path: Path) -> tuple[Images, Remarks]:
        own: Remarks = Counter()  # of one thread
        return form.array(opened(path, own), str(path), own), own

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), CHUNK):
            images, counts = zip(*pool.map(decoded, paths[start : start + CHUNK]), strict=True)
            for count in counts:
                remarks.update(count)
            yield Chunk(np.stack(images), np.array(labels[start : start + CHUNK], np.int64))


def _on_white(image: Image.Image, remarks: Remarks) -> Image.Image:
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema() == (255, 255):
        return image
    remarks["images with transparency, laid on white"] += 1
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), layer)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise UserError(f"{name}: not a readable image ({type(error).__name__}); repair or remove it") from error

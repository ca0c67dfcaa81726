"""The share of saturated pixels in a condensed set. It reveals a learning rate that is too high, which a clamp hides."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from esp_core.parametrisations import Parametrisation

if TYPE_CHECKING:
    from esp_core.datasets import Dataset

STEP = 0.5 / 255  # a pixel nearer to 0 or 1 than this rounds to it
FAR = 10.0  # how far outside [0, 1] a value without a clamp may lie, in ranges of an image
TOLD = 0.25  # warn above this share


def saturation(synthetic: Parametrisation, data: "Dataset") -> float:
    """The share, in [0, 1], of saturated values: of the stored pixels, or of the decoded ones if no pixels are stored or they are whitened.

    With a clamp, a pixel at 0 or 1 is saturated; the share of such pixels in the real training images is subtracted. Without a clamp, a
    pixel is saturated if it is not finite or lies more than `FAR` ranges of an image outside [0, 1].
    """
    with torch.no_grad():
        stored = synthetic.tensors.get("pixels")
        if stored is None or synthetic.task.normalisation.zca is not None:  # whitening can only be inverted on complete images
            stored = torch.cat([synthetic.decode(part) for part in torch.arange(synthetic.units).split(256)])
        pixels = synthetic.task.normalisation.denormalise(stored)
    if getattr(synthetic, "clamp", True):
        return max(0.0, _at_an_end(pixels) - _at_an_end(data.train.images))
    return float((~((pixels >= -FAR) & (pixels <= 1 + FAR))).float().mean())


def _at_an_end(pixels: Tensor) -> float:
    """Share of pixels at 0 or 1, of uint8 images or of floating-point ones in [0, 1]."""
    if pixels.dtype == torch.uint8:
        return float(((pixels == 0) | (pixels == 255)).float().mean())
    return float((~((pixels > STEP) & (pixels < 1 - STEP))).float().mean())

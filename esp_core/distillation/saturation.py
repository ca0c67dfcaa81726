"""How much of a condensed set has left what images can hold: the sign of a learning rate that is too high, which a clamp hides."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from esp_core.parametrisations import Parametrisation

if TYPE_CHECKING:
    from esp_core.datasets import Dataset

STEP = 0.5 / 255  # what is nearer to an end of [0, 1] rounds to it
FAR = 10.0  # times the range of an image that a value without a clamp may lie outside it
TOLD = 0.25  # the share from which it is said


def saturation(synthetic: Parametrisation, data: "Dataset") -> float:
    """The share of stored pixels, or of decoded ones where none are stored, that hold nothing any more, in [0, 1].

    With a clamp: those at 0 or 1, beyond the share of such pixels in the real training images. Without: those that are not finite, or
    lie more than `FAR` ranges of an image outside it.
    """
    with torch.no_grad():
        stored = synthetic.tensors.get("pixels")
        if stored is None or synthetic.task.normalisation.zca is not None:  # which is undone on whole images alone
            stored = torch.cat([synthetic.decode(part) for part in torch.arange(synthetic.units).split(256)])
        pixels = synthetic.task.normalisation.denormalise(stored)
    if getattr(synthetic, "clamp", True):
        return max(0.0, _at_an_end(pixels) - _at_an_end(data.train.images))
    return float((~((pixels >= -FAR) & (pixels <= 1 + FAR))).float().mean())


def _at_an_end(pixels: Tensor) -> float:
    """Of uint8 images, or of floating-point ones in [0, 1]."""
    if pixels.dtype == torch.uint8:
        return float(((pixels == 0) | (pixels == 255)).float().mean())
    return float((~((pixels > STEP) & (pixels < 1 - STEP))).float().mean())

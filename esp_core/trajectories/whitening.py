"""ZCA whitening as MTT has it: of images in [0, 1], in place of a mean and deviation per channel, with kornia's eps of 0.1."""

from collections.abc import Callable

import torch
from kornia.enhance import ZCAWhitening
from torch import Tensor

EPS = 0.1
BATCH = 1024


def fit(images: Tensor) -> Callable[[Tensor], Tensor]:
    """The whitening of training images (n, C, H, W) uint8: a function of images (m, C, H, W) uint8, to float32 of their shape."""
    zca = ZCAWhitening(dim=0, eps=EPS, compute_inv=False).fit(images.float() / 255)

    def whiten(images: Tensor) -> Tensor:
        return torch.cat([zca(part.float() / 255) for part in images.split(BATCH)])

    return whiten

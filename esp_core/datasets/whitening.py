"""ZCA whitening as MTT's code has it: fitted by kornia to images in [0, 1], in place of a mean and deviation of each channel."""

import torch
from kornia.enhance import ZCAWhitening
from torch import Tensor

from esp_core.datasets.source import Images

EPS = 0.1


def fit(images: Images) -> dict[str, Tensor]:
    """The whitening of training images (n, C, H, W) uint8, as `Normalisation.read` takes it."""
    fitted = ZCAWhitening(eps=EPS).fit(torch.from_numpy(images).float().div_(255))
    return {"zca_mean": fitted.mean_vector[0], "zca_matrix": fitted.transform_matrix}

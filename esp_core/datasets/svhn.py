"""SVHN, the cropped digits: 73,257 training and 26,032 test colour images of 32 x 32, without the `extra` ones.

Source: Y. Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, NIPS workshop, 2011; non-commercial use only.
"""

from pathlib import Path

import numpy as np

from esp_core.datasets import official
from esp_core.datasets.source import Part, Request, Source
from esp_core.runtime.errors import UserError


def read(request: Request) -> Source:
    """The two .mat files: X is (32, 32, 3, N) uint8; y is (N, 1), with 10 for the digit 0."""
    folder, origin = official.opened(request)
    train, test = (_part(folder / f"{name}_32x32.mat") for name in ("train", "test"))
    return Source(tuple("0123456789"), train, test, origin)


def _part(path: Path) -> Part:
    from scipy.io import loadmat

    content = loadmat(path, variable_names=["X", "y"])
    images, labels = (content.get(name, np.zeros(())) for name in ("X", "y"))
    if images.shape[:3] != (32, 32, 3) or labels.shape != (*images.shape[3:], 1):
        raise UserError(
            f"{path}: X has shape {images.shape} and y {labels.shape}, not SVHN's (32, 32, 3, N) and (N, 1); get the cropped-digits file"
        )
    return Part(str(path), images.transpose(3, 2, 0, 1), np.where(labels == 10, 0, labels)[:, 0].astype(np.int64))

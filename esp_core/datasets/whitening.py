"""ZCA whitening, instead of mean and standard deviation per channel, as in two published codes.

"zca" is MTT's: kornia's fit to images in [0, 1]. "zca_rfad" is RFAD's (Loo et al., 2022; data.py, get_zca_matrix): images are first
standardised per channel, the matrix is fitted to their second moments, and the regulariser is a fraction of the mean eigenvalue.
"""

import torch
from kornia.enhance import ZCAWhitening
from torch import Tensor

from esp_core.datasets.source import Images

EPS = 0.1


def fit(images: Images, kind: str = "zca") -> dict[str, Tensor]:
    """The whitening of training images (n, C, H, W) uint8, in the form that `Normalisation.read` takes."""
    values = torch.from_numpy(images).float().div_(255)
    if kind == "zca":
        fitted = ZCAWhitening(eps=EPS).fit(values)
        return {"zca_mean": fitted.mean_vector[0], "zca_matrix": fitted.transform_matrix}
    means, deviations = values.mean((0, 2, 3), keepdim=True), values.std((0, 2, 3), keepdim=True)
    flat = values.sub_(means).div_(deviations).flatten(1)
    eigenvalues, vectors = torch.linalg.eigh((flat.T @ flat / len(flat)).double())
    matrix = (vectors * (eigenvalues + EPS * eigenvalues.mean()).rsqrt()) @ vectors.T
    mean, deviation = (each.expand(1, *values.shape[1:]).flatten() for each in (means, deviations))
    return {"zca_mean": mean.clone(), "zca_matrix": (matrix / deviation.double()[:, None]).float()}

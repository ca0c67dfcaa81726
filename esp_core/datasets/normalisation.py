"""From images in [0, 1] to network inputs and back: by mean and standard deviation per channel, or by ZCA whitening."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ZCA:
    """A fitted ZCA whitening: `mean` (D,) and `matrix` (D, D), float32, for images flattened to D = C x H x W numbers."""

    mean: Tensor
    matrix: Tensor

    @cached_property
    def inverse(self) -> Tensor:
        """The inverse (D, D) of `matrix`, computed in float64."""
        return torch.linalg.inv(self.matrix.cpu().double()).float().to(self.matrix.device)


@dataclass(frozen=True)
class Normalisation:
    """Normalise [0, 1] images by `mean` and `std` (C,) float32, or by `zca`; with `zca`, mean and std only identify the training images."""

    mean: Tensor
    std: Tensor
    zca: ZCA | None = None

    @classmethod
    def read(cls, mean: Sequence[float], std: Sequence[float], stored: Mapping[str, Any]) -> "Normalisation":
        """From stored numbers; `stored` contains `tensors` among others. Raises KeyError if one of them is missing."""
        zca = ZCA(*(torch.as_tensor(stored[name][:]) for name in ("zca_mean", "zca_matrix"))) if "zca_mean" in stored else None
        return cls(torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32), zca)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors to store beside mean and std: those of the whitening, if any."""
        return {} if self.zca is None else {"zca_mean": self.zca.mean, "zca_matrix": self.zca.matrix}

    @property
    def space(self) -> str:
        """The space of normalised images: "normalised" or "zca"."""
        return "normalised" if self.zca is None else "zca"

    def to(self, device: torch.device | str) -> "Normalisation":
        """A copy on `device`."""
        zca = None if self.zca is None else ZCA(self.zca.mean.to(device), self.zca.matrix.to(device))
        return Normalisation(self.mean.to(device), self.std.to(device), zca)

    def normalise(self, images: Tensor) -> Tensor:
        """The network input for `images` (n, C, H, W): uint8, which becomes float32, or floating-point in [0, 1]; differentiable."""
        values = images.float() / 255 if images.dtype == torch.uint8 else images
        if self.zca is not None:
            return ((values.flatten(1) - self.zca.mean.to(values)) @ self.zca.matrix.to(values)).view(values.shape)
        mean, std = self._channels(values)
        return (values - mean) / std

    def denormalise(self, images: Tensor) -> Tensor:
        """The inverse of `normalise`, (n, C, H, W)."""
        if self.zca is not None:
            return (images.flatten(1) @ self.zca.inverse.to(images) + self.zca.mean.to(images)).view(images.shape)
        mean, std = self._channels(images)
        return images * std + mean

    def clamp(self, images: Tensor) -> Tensor:
        """Clamp normalised `images` (n, C, H, W) to values that are in [0, 1] before normalisation."""
        if self.zca is not None:
            return self.normalise(self.denormalise(images).clamp(0, 1))
        low, high = (self.normalise(torch.full_like(images[:1], edge)) for edge in (0.0, 1.0))
        return torch.maximum(torch.minimum(images, high), low)

    def _channels(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std, broadcastable to `images`."""
        return self.mean.to(images.device).view(-1, 1, 1), self.std.to(images.device).view(-1, 1, 1)

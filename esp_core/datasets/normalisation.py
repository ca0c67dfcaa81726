"""From images in [0, 1] to what networks see, and back: by a mean and deviation of each channel, or by ZCA whitening."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ZCA:
    """What kornia's ZCAWhitening fitted: `mean` (D,) and `matrix` (D, D), float32, of images flattened to D = C x H x W numbers."""

    mean: Tensor
    matrix: Tensor

    @cached_property
    def inverse(self) -> Tensor:
        """The inverse (D, D) of `matrix`, computed in float64."""
        return torch.linalg.inv(self.matrix.cpu().double()).float().to(self.matrix.device)


@dataclass(frozen=True)
class Normalisation:
    """By `mean` and `std` (C,) float32 of [0, 1] images, or by `zca`, beside which they only tell what it was fitted to."""

    mean: Tensor
    std: Tensor
    zca: ZCA | None = None

    @classmethod
    def read(cls, mean: Sequence[float], std: Sequence[float], stored: Mapping[str, Any]) -> "Normalisation":
        """What was written as two lists of numbers and as `tensors`, `stored` among others. Raises KeyError where one is missing."""
        zca = ZCA(*(torch.as_tensor(stored[name][:]) for name in ("zca_mean", "zca_matrix"))) if "zca_mean" in stored else None
        return cls(torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32), zca)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What is to be stored beside mean and std: nothing, or the whitening."""
        return {} if self.zca is None else {"zca_mean": self.zca.mean, "zca_matrix": self.zca.matrix}

    @property
    def space(self) -> str:
        """What `normalise` leads to: "normalised" or "zca"."""
        return "normalised" if self.zca is None else "zca"

    def to(self, device: torch.device | str) -> "Normalisation":
        """The same on `device`."""
        zca = None if self.zca is None else ZCA(self.zca.mean.to(device), self.zca.matrix.to(device))
        return Normalisation(self.mean.to(device), self.std.to(device), zca)

    def normalise(self, images: Tensor) -> Tensor:
        """What networks see of `images` (n, C, H, W): uint8, which becomes float32, or floating-point in [0, 1], maybe with a gradient."""
        values = images.float() / 255 if images.dtype == torch.uint8 else images
        if self.zca is not None:
            return ((values.flatten(1) - self.zca.mean.to(values)) @ self.zca.matrix.to(values)).view(values.shape)
        mean, std = self._channels(values)
        return (values - mean) / std

    def denormalise(self, images: Tensor) -> Tensor:
        """The inverse of `normalise`: images (n, C, H, W) on the scale where [0, 1] can be shown."""
        if self.zca is not None:
            return (images.flatten(1) @ self.zca.inverse.to(images) + self.zca.mean.to(images)).view(images.shape)
        mean, std = self._channels(images)
        return images * std + mean

    def clamp(self, images: Tensor) -> Tensor:
        """Normalised `images` (n, C, H, W) brought back to what can be shown, [0, 1] before they were normalised."""
        if self.zca is not None:
            return self.normalise(self.denormalise(images).clamp(0, 1))
        low, high = (self.normalise(torch.full_like(images[:1], edge)) for edge in (0.0, 1.0))
        return torch.maximum(torch.minimum(images, high), low)

    def _channels(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std, to be applied to `images`."""
        return self.mean.to(images.device).view(-1, 1, 1), self.std.to(images.device).view(-1, 1, 1)

"""A condensed set as a map-style torch Dataset, for an ordinary DataLoader."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset


class MapStyle(Dataset[tuple[Any, int]]):
    """Pairs of an image (C, H, W) float32, after `transform` if given, and its label.

    `classes` (names) and `targets` (labels) are as in torchvision's datasets.
    """

    def __init__(self, images: Tensor, labels: Tensor, classes: tuple[str, ...], transform: Callable[[Tensor], Any] | None = None):
        self.images, self.transform = images, transform
        self.targets: list[int] = labels.tolist()
        self.classes = list(classes)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.images[index]
        return image if self.transform is None else self.transform(image), self.targets[index]

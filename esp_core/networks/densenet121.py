"""DenseNet-121 for small images: growth 32, dense blocks of 6, 12, 24 and 16 layers, 3x3 stem without pooling, batch norm.

6,956,298 parameters at 10 classes (ESP Section 4.4: "6.96 M"). Huang et al., CVPR 2017. Torch's default initialisation.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from esp_core.runtime.errors import UserError

BLOCKS = 4
SMALLEST = 8  # three transitions halve the image


class DenseLayer(nn.Module):
    """Adds `growth` channels, computed from all earlier ones: (n, before, H, W) -> (n, before + growth, H, W)."""

    def __init__(self, before: int, growth: int):
        super().__init__()
        self.grow = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.Conv2d(before, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.grow(x)], dim=1)


def _transition(before: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(before), nn.ReLU(), nn.Conv2d(before, before // 2, 1, bias=False), nn.AvgPool2d(2))


class DenseNet(nn.Module):
    """Four dense blocks with halving transitions between them, global average, linear classifier."""

    def __init__(self, channels: int, classes: int, growth: int, blocks: Sequence[int]):
        super().__init__()
        width = 2 * growth
        parts: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
        for block, layers in enumerate(blocks):
            if block:
                parts.append(_transition(width))
                width //= 2
            parts += [DenseLayer(width + growth * i, growth) for i in range(layers)]
            width += growth * layers
        self.layers = nn.Sequential(*parts, nn.BatchNorm2d(width), nn.ReLU())
        self.classifier = nn.Linear(width, classes)

    def features(self, images: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, 32 * growth), the mean over the last block's map."""
        return self.layers(images).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def build(
    channels: int,
    size: int,
    classes: int,
    growth: Annotated[int, ">= 1"] = 32,
    blocks: Sequence[Annotated[int, ">= 1"]] = (6, 12, 24, 16),
) -> DenseNet:
    """DenseNet-121, or with other `blocks`. Raises UserError for images below 8 pixels, too small for the last block.

    growth: channels that a layer adds; Huang et al.
    blocks: the layers of each of the four blocks; Huang et al.
    """
    if len(blocks) != BLOCKS:
        raise UserError(f"network densenet121: blocks {list(blocks)}; give four numbers of layers, such as [6, 12, 24, 16]")
    if size < SMALLEST:
        raise UserError(f"network densenet121: needs images of {SMALLEST} pixels or more, not {size}")
    return DenseNet(channels, classes, growth, blocks)

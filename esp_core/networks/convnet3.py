"""ConvNet-3, the field's standard small network: three blocks of 3x3 convolution, instance norm, ReLU and 2x2 average pooling.

320,010 parameters at 10 classes and 32x32 pixels (ESP Section 4.4: "0.32 M"). Torch's default initialisation.
"""

from typing import Annotated

from torch import Tensor, nn


class ConvNet(nn.Module):
    """`depth` blocks of `width` channels and a linear classifier. Images (n, channels, size, size)."""

    def __init__(self, channels: int, size: int, classes: int, width: int, depth: int):
        super().__init__()
        blocks: list[nn.Module] = []
        for i in range(depth):
            blocks += [
                nn.Conv2d(width if i else channels, width, 3, padding=1),
                nn.GroupNorm(width, width),
                nn.ReLU(),
                nn.AvgPool2d(2),
            ]
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width * (size // 2**depth) ** 2, classes)

    def features(self, images: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, width * (size / 2^depth)^2), the input of the classifier."""
        return self.blocks(images).flatten(1)

    def intermediates(self, images: Tensor) -> list[Tensor]:
        """The output of each block before its pooling, and the features: the `depth` + 1 depths at which CAFE compares images."""
        found, x = [], images
        for layer in self.blocks:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x)
        return [*found, x.flatten(1)]

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def build(channels: int, size: int, classes: int, width: Annotated[int, ">= 1"] = 128, depth: Annotated[int, ">= 1"] = 3) -> ConvNet:
    """ConvNet-3; with `depth=4` ConvNet-4, which the baselines quoted for TinyImageNet used.

    width: channels of a block; ESP Section 4.4
    depth: blocks, each of which halves the image; ESP Section 4.4
    """
    return ConvNet(channels, size, classes, width, depth)

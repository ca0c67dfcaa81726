"""ResNet-10 for small images: one basic block in each of four stages, 64 to 512 channels, 3x3 stem, no max-pooling.

4,903,242 parameters at 10 classes (ESP Section 4.4: "4.90 M"). He et al., CVPR 2016. Torch's default initialisation.

Batch norm and instance norm both give this count. Batch norm is the default, since IDC's public evaluation code, the source of the
ResNet-10 columns quoted in ESP's Table 2, uses it. Instance norm has no running statistics, so a network with it can also be
the network of distillation and of experts.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from torch import Tensor, nn

from esp_core.runtime.errors import UserError

# The settings of `norm`, each with the smallest image: instance norm of a single value is zero.
NORMS: dict[str, tuple[Callable[[int], nn.Module], int]] = {
    "batch": (nn.BatchNorm2d, 1),
    "instance": (lambda channels: nn.GroupNorm(channels, channels), 16),
}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, (n, before, H, W) -> (n, after, H / stride, W / stride)."""

    def __init__(self, before: int, after: int, stride: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            norm(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            norm(after),
        )
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), norm(after))

    def forward(self, x: Tensor) -> Tensor:
        return (self.residual(x) + self.shortcut(x)).relu()


class ResNet(nn.Module):
    """Stages of one block each, with 1, 2, 4 and 8 times `width` channels, then global average and linear classifier."""

    def __init__(self, channels: int, classes: int, width: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), norm(width), nn.ReLU())
        self.stages = nn.Sequential(*(BasicBlock(widths[i], widths[i + 1], 2 if i else 1, norm) for i in range(4)))
        self.classifier = nn.Linear(8 * width, classes)

    def features(self, images: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, 8 * width), the mean over the last stage's map."""
        return self.stages(self.stem(images)).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def build(
    channels: int, size: int, classes: int, width: Annotated[int, ">= 1"] = 64, norm: Literal["batch", "instance"] = "batch"
) -> ResNet:
    """ResNet-10. Raises UserError for images too small for its norm.

    width: channels of the first stage, doubled by each of the others; ESP Section 4.4
    norm: batch norm, IDC's evaluation code, or instance norm, with which the network can also teach; ours
    """
    layer, smallest = NORMS[norm]
    if size < smallest:
        raise UserError(f"network resnet10: {norm} norm needs images of {smallest} pixels or more, not {size}; use norm: batch")
    return ResNet(channels, classes, width, layer)

"""EfficientNetV2-S, torchvision's, from random initial weights. Tan and Le, ICML 2021.

20,190,298 parameters at 10 classes (ESP Section 4.4 rounds the 1000-class network to "22 M"). It divides the image by
32, so 32 pixels and fewer leave one value a channel at its end, and batch norm cannot train on a single image there.
Training draws dropout and stochastic depth from torch's global generator.
"""

from typing import cast

from torch import Tensor, nn

from esp_core.networks import torchvision_import


class EfficientNet(nn.Module):
    """torchvision's network in two parts: features, dropout included, and a linear classifier."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        torchvision_import.load()
        from torchvision.models import efficientnet_v2_s

        network = efficientnet_v2_s(num_classes=classes)
        if channels != 3:
            network.features[0][0] = _stem(channels, network.features[0][0].out_channels)
        self.layers = network.features
        self.dropout = cast(nn.Dropout, network.classifier[0])
        self.classifier = cast(nn.Linear, network.classifier[1])

    def features(self, images: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, 1280), the mean over the last map; with dropout while training."""
        return self.dropout(self.layers(images).mean((2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def _stem(channels: int, width: int) -> nn.Conv2d:
    """torchvision's first convolution, and its initialisation, for other than three channels."""
    stem = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out")
    return stem


def build(channels: int, size: int, classes: int) -> EfficientNet:
    """EfficientNetV2-S for images of any size."""
    return EfficientNet(channels, classes)

"""EfficientNetV2-S, torchvision's, from random initial weights. Tan and Le, ICML 2021.

20,190,298 parameters at 10 classes (ESP Section 4.4 rounds the 1000-class network to "22 M"). It divides the image by
32, so 32 pixels and fewer leave one value a channel at its end. Training draws dropout and stochastic depth from torch's
global generator.
"""

from typing import cast

from torch import Tensor, nn

from esp_core.networks import torchvision_import

torchvision_import.load()

from torchvision.models import efficientnet_v2_s  # noqa: E402


class EfficientNet(nn.Module):
    """torchvision's network in two parts: features, dropout included, and a linear classifier."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        network = efficientnet_v2_s(num_classes=classes)
        if channels != 3:
            stem = cast(nn.Conv2d, network.features[0][0])
            network.features[0][0] = nn.Conv2d(channels, stem.out_channels, 3, stride=2, padding=1, bias=False)
            nn.init.kaiming_normal_(network.features[0][0].weight, mode="fan_out")
        self.layers = network.features
        self.dropout = cast(nn.Dropout, network.classifier[0])
        self.classifier = cast(nn.Linear, network.classifier[1])

    def features(self, images: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, 1280), the mean over the last map, after dropout when training."""
        return self.dropout(self.layers(images).mean((2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def build(channels: int, size: int, classes: int) -> EfficientNet:
    """EfficientNetV2-S for images of any size."""
    return EfficientNet(channels, classes)

"""EfficientNetV2-S from torchvision, with random initial weights. Tan and Le, ICML 2021.

20,190,298 parameters at 10 classes (ESP Section 4.4 rounds the 1000-class network to "22 M"). It divides the side of the image by 32.
Images of 32 pixels or fewer leave one value per channel at the end, and batch norm cannot train on a single such image. Dropout
and stochastic depth draw from torch's global generator. `width` and `depth` scale channels and layers, as in the paper's compound
scaling.
"""

from functools import partial
from typing import Annotated, Any, cast

from torch import Tensor, nn

from esp_core.networks import torchvision_import


class EfficientNet(nn.Module):
    """torchvision's network in two parts: features, dropout included, and a linear classifier."""

    def __init__(self, channels: int, classes: int, width: float, depth: float):
        super().__init__()
        torchvision_import.load()
        network = _network(classes, width, depth)
        if channels != 3:
            network.features[0][0] = _stem(channels, network.features[0][0].out_channels)
        self.layers = network.features
        self.dropout = cast(nn.Dropout, network.classifier[0])
        self.classifier = cast(nn.Linear, network.classifier[1])

    def features(self, images: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, 1280 * width), the mean over the last map, with dropout in training."""
        return self.dropout(self.layers(images).mean((2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def _stem(channels: int, width: int) -> nn.Conv2d:
    """torchvision's first convolution and its initialisation, for a number of channels other than three."""
    stem = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out")
    return stem


def _network(classes: int, width: float, depth: float) -> Any:
    """torchvision's network with `width` times the channels, in steps of 8, and `depth` times the layers, at least one a stage."""
    from torchvision.models.efficientnet import EfficientNet as Scaled
    from torchvision.models.efficientnet import _efficientnet_conf

    stages, last = _efficientnet_conf("efficientnet_v2_s")
    for stage in stages:
        stage.input_channels = stage.adjust_channels(stage.input_channels, width)
        stage.out_channels = stage.adjust_channels(stage.out_channels, width)
        stage.num_layers = max(1, round(stage.num_layers * depth))
    return Scaled(stages, dropout=0.2, num_classes=classes, norm_layer=partial(nn.BatchNorm2d, eps=1e-3), last_channel=int(last * width))


def build(
    channels: int, size: int, classes: int, width: Annotated[float, "> 0"] = 1.0, depth: Annotated[float, "> 0"] = 1.0
) -> EfficientNet:
    """EfficientNetV2-S for images of any size.

    width: what the channels are multiplied by; Tan and Le's compound scaling
    depth: what the layers are multiplied by; Tan and Le's compound scaling
    """
    return EfficientNet(channels, classes, width, depth)

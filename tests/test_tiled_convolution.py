"""Convolutions of images side by side against each image by itself, in float64."""

import pytest
import torch
from torch import nn

from esp_core import networks
from esp_core.training.tiled_convolution import Tiled, tile_convolutions


def convolution(stride=1, bias=False):
    torch.manual_seed(0)
    return nn.Conv2d(3, 5, 3, stride, padding=1, bias=bias).double()


@pytest.mark.parametrize(
    ("stride", "bias", "height", "width"), [(1, False, 4, 4), (1, True, 1, 1), (2, False, 8, 8), (2, True, 6, 2), (1, False, 3, 8)]
)
@pytest.mark.parametrize("n", [1, 3, 6, 16])
def test_images_and_gradients_are_those_of_the_plain_convolution(stride, bias, height, width, n):
    plain, tiled = convolution(stride, bias), nn.Sequential(convolution(stride, bias))
    tile_convolutions(tiled)
    assert type(tiled[0]) is Tiled and type(plain) is nn.Conv2d
    x = torch.randn(n, 3, height, width, dtype=torch.double, requires_grad=True)
    ours, theirs = tiled(x), plain(x)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(theirs)
    found = torch.autograd.grad(ours, [x, *tiled.parameters()], weight)
    for one, other in zip(found, torch.autograd.grad(theirs, [x, *plain.parameters()], weight), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 4, 3, 3, padding=1),
    ],
)
def test_other_convolutions_stay(other):
    tile_convolutions(nn.Sequential(other))
    assert type(other) is nn.Conv2d


def test_a_network_s_small_maps_are_tiled_and_its_weights_keep_their_names(monkeypatch):
    wide = []
    convolve = torch.nn.functional.conv2d
    monkeypatch.setattr("esp_core.training.tiled_convolution.F.conv2d", lambda x, *others: (wide.append(x.shape), convolve(x, *others))[1])
    plain, tiled = (networks.build("resnet10", 3, 32, 10, width=4, seed=0).double().eval() for _ in range(2))
    tile_convolutions(tiled)
    x = torch.randn(16, 3, 32, 32, dtype=torch.double)
    torch.testing.assert_close(tiled(x), plain(x))
    tall = [shape for shape in wide if shape[0] == 2]  # two rows of eight images
    assert [shape[3] for shape in tall] == [8 * 18, 8 * 9, 8 * 10, 8 * 5]
    assert tiled.state_dict().keys() == plain.state_dict().keys()

"""What a network shows of its way: the blocks' outputs before pooling, and the features that its classifier sees."""

import pytest
import torch

from esp_core import networks
from esp_core.networks.flat import FlatNetwork, flatten
from esp_core.runtime.errors import UserError


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_stages_are_the_blocks_and_the_features(depth):
    network = networks.build("convnet3", 2, 16, 4, seed=1, width=5, depth=depth)
    images = torch.randn(3, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    stages = network.intermediates(images)
    assert [tuple(s.shape) for s in stages[:-1]] == [(3, 5, 16 // 2**k, 16 // 2**k) for k in range(depth)]
    assert torch.equal(stages[-1], network.features(images))
    assert torch.equal(torch.nn.functional.avg_pool2d(stages[-2], 2).flatten(1), stages[-1])


def test_a_flat_network_shows_the_stages_at_theta():
    settings = {"name": "convnet3", "channels": 1, "size": 8, "classes": 3, "width": 4, "depth": 2}
    mould, other = networks.build(**settings, seed=1), networks.build(**settings, seed=2)
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    flat, theta = FlatNetwork(mould), flatten(other)
    shown = flat.intermediates(theta, images)
    for stage, wanted in zip(shown, other.intermediates(images), strict=True):
        torch.testing.assert_close(stage, wanted.flatten(1))
    torch.testing.assert_close(shown[-1], flat(theta, images)[0])


def test_a_network_without_stages_is_named():
    network = FlatNetwork(networks.build("resnet10", 1, 16, 3, seed=0, width=2, norm="instance"))
    with pytest.raises(UserError, match="distill_network: ResNet has no intermediates"):
        network.intermediates(torch.zeros(network.parameters), torch.zeros(1, 1, 16, 16))

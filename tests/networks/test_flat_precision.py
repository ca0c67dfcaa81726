"""bfloat16 is an arithmetic of the layers: weights, outputs and gradients keep their type, and come close to float32's."""

import pytest
import torch
import torch.nn.functional as F

from esp_core import networks
from esp_core.networks.flat import FlatNetwork, flatten
from esp_core.runtime.errors import UserError


@pytest.fixture
def made():
    network = networks.build("convnet3", 3, 16, 4, width=16, seed=0)
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return network, flatten(network), images, torch.arange(8) % 4


def gradients(flat, theta, images, labels):
    """Logits, the gradient of the loss, and that of the gradient's norm, as the projection term asks for it."""
    theta, images = theta.requires_grad_(), images.clone().requires_grad_()
    logits = flat(theta, images)[1]
    [first] = torch.autograd.grad(F.cross_entropy(logits, labels), theta, create_graph=True)
    [second] = torch.autograd.grad(first.square().sum(), images)
    return logits, first, second


def test_bfloat16_is_close_and_gives_float32(made):
    network, *rest = made
    exact, low = (gradients(FlatNetwork(network, precision), *rest) for precision in ("float32", "bfloat16"))
    for a, b in zip(exact, low, strict=True):
        assert b.dtype == torch.float32 and not torch.equal(a, b)
        assert F.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.99
    for a, b in zip(*(FlatNetwork(network, p).intermediates(rest[0], rest[1]) for p in ("float32", "bfloat16")), strict=True):
        assert b.dtype == torch.float32 and 0 < (a - b).norm() / a.norm() < 0.02


def test_float32_is_the_network_itself(made):
    network, theta, images, _ = made
    assert torch.equal(FlatNetwork(network)(theta, images)[1], network(images))


def test_an_unknown_precision(made):
    with pytest.raises(UserError, match="precision: 'half'; use auto, float32, bfloat16"):
        FlatNetwork(made[0], "half")

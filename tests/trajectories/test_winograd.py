import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from esp_core import networks
from esp_core.trajectories import winograd


def convolution(inputs, outputs, bias=True):
    torch.manual_seed(0)
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias).double()


@pytest.mark.parametrize("height, width", [(4, 4), (8, 12), (16, 16)])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_torch_in_float64_with_both_gradients(height, width, bias):
    theirs = convolution(16, 5, bias)
    ours = winograd.Convolution(theirs)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 16, height, width, generator=generator, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, 5, height, width, generator=generator, dtype=torch.float64)
    inputs = (x, *theirs.parameters())
    expected, got = theirs(x), ours(x)
    assert torch.allclose(got, expected, atol=1e-12)
    gradients = zip(torch.autograd.grad((got * y).sum(), inputs), torch.autograd.grad((expected * y).sum(), inputs), strict=True)
    assert all(torch.allclose(a, b, atol=1e-11) for a, b in gradients)


def test_channels_last_images_give_the_same():
    theirs = convolution(16, 16)
    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(winograd.Convolution(theirs)(x.contiguous(memory_format=torch.channels_last)), theirs(x), atol=1e-12)


def test_error_in_float32_is_as_stated():
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(4, 128, 16, 16, generator=generator), torch.randn(128, 128, 3, 3, generator=generator) / 34
    layer = nn.Conv2d(128, 128, 3, padding=1, bias=False)
    layer.weight.data = w
    exact = conv2d(x.double(), w.double(), padding=1)
    assert float((winograd.Convolution(layer)(x) - exact).detach().norm() / exact.norm()) < 4e-6


def test_other_sizes_are_left_to_torch():
    layer = convolution(16, 4)
    x = torch.randn(1, 16, 6, 8, dtype=torch.float64)
    assert torch.allclose(winograd.Convolution(layer)(x), layer(x), atol=1e-14)


def test_few_channels_are_left_to_torch():
    layer = convolution(3, 4)
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    assert torch.allclose(winograd.Convolution(layer)(x), layer(x), atol=1e-14)
    assert "Winograd" not in str(winograd.Convolution(convolution(3, 4, bias=False))(x).grad_fn)
    assert "Winograd" in str(winograd.Convolution(convolution(16, 4, bias=False))(torch.randn(1, 16, 8, 8).double()).grad_fn)


def test_a_network_shares_its_parameters_with_its_copy():
    network = networks.build("convnet3", channels=3, size=16, classes=10, width=16, seed=0)
    shared = winograd.replace_convolutions(network)
    assert sum(isinstance(m, winograd.Convolution) for m in shared.modules()) == 3
    assert [id(p) for p in shared.parameters()] == [id(p) for p in network.parameters()]
    x = torch.randn(2, 3, 16, 16)
    assert torch.allclose(shared(x), network(x), atol=1e-4)
    assert not any(isinstance(m, winograd.Convolution) for m in network.modules())


@pytest.mark.parametrize("options", [{"stride": 2}, {"padding": 0}, {"groups": 2}, {"dilation": 2}, {"padding_mode": "circular"}])
def test_other_convolutions_stay(options):
    layer = nn.Conv2d(16, 16, 3, **{"padding": 1, **options})
    assert type(winograd.replace_convolutions(nn.Sequential(layer))[0]) is nn.Conv2d

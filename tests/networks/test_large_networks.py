"""ResNet-10, DenseNet-121 and EfficientNetV2-S: sizes, shapes, equality with torchvision's, seeds, and that they learn."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from esp_core import networks
from esp_core.networks import torchvision_import
from esp_core.runtime.errors import UserError

torchvision_import.load()

from torchvision.models import densenet121 as torchvision_densenet121  # noqa: E402
from torchvision.models import efficientnet_v2_s  # noqa: E402
from torchvision.models.resnet import BasicBlock, ResNet  # noqa: E402

SMALL = [("resnet10", {"width": 8}), ("resnet10", {"width": 8, "norm": "instance"}), ("densenet121", {"growth": 4})]
NARROW = [("densenet121", {"growth": 4, "blocks": (1, 2, 3, 2)}), ("efficientnetv2s", {"width": 0.25, "depth": 0.25})]
EVERY = [*SMALL, *NARROW, ("efficientnetv2s", {})]


def count(network):
    return sum(p.numel() for p in network.parameters())


def images(n, channels, size, seed=0):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "settings", "parameters"),
    [
        ("resnet10", {}, 4_903_242),
        ("resnet10", {"norm": "instance"}, 4_903_242),
        ("densenet121", {}, 6_956_298),
        ("efficientnetv2s", {}, 20_190_298),
    ],
)
def test_parameter_counts(name, settings, parameters):
    assert count(networks.build(name, channels=3, size=32, classes=10, **settings)) == parameters


def test_efficientnet_at_full_scale_is_torchvisions():
    torch.manual_seed(3)
    theirs = efficientnet_v2_s(num_classes=10)
    ours = networks.build("efficientnetv2s", 3, 32, 10, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_blocks_and_depth_count_layers():
    dense, efficient = (networks.build(name, 3, 16, 10, **settings) for name, settings in NARROW)
    # A stem, three transitions, two a layer.
    assert sum(isinstance(module, nn.Conv2d) for module in dense.modules()) == 1 + 3 + 2 * (1 + 2 + 3 + 2)
    # A quarter of 2, 4, 4, 6, 9 and 15 layers (Tan and Le, Table 4), and at least one.
    assert [len(stage) for stage in efficient.layers[1:-1]] == [1, 1, 1, 2, 2, 4]
    assert efficient.classifier.in_features == 320


@pytest.mark.parametrize(("blocks", "line"), [((1, 2), "give four numbers of layers"), ((0, 1, 1, 1), r"blocks\[0\]: 0 is not allowed")])
def test_four_blocks_of_a_layer_or_more(blocks, line):
    with pytest.raises(UserError, match=line):
        networks.build("densenet121", 1, 16, 10, blocks=blocks)


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "settings"), EVERY)
def test_shapes_and_that_the_classifier_follows_the_features(name, settings, channels, size):
    network = networks.build(name, channels, size, 7, seed=0, **settings).eval()
    x = images(2, channels, size)
    with torch.no_grad():
        features = network.features(x)
        assert features.shape == (2, network.classifier.in_features)
        assert torch.isfinite(features).all()
        assert torch.equal(network(x), network.classifier(features))
    assert network(x).shape == (2, 7)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", ["resnet10", "densenet121"])
def test_equals_torchvisions_network_with_the_same_weights(name, train):
    """Both list their tensors in the same order, so weights, scales and running averages are copied one by one."""
    if name == "resnet10":
        theirs = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)
        theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    else:
        theirs = torchvision_densenet121(num_classes=10)
        theirs.features[0] = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        for layer in ("norm0", "relu0", "pool0"):
            delattr(theirs.features, layer)
    ours = networks.build(name, 3, 16, 10, seed=1).double().train(train)
    theirs = theirs.double().train(train)
    generator = torch.Generator().manual_seed(2)
    for tensor in ours.state_dict().values():
        if tensor.dim() == 1:
            tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.5)
    mine, other = ours.state_dict(), theirs.state_dict()
    assert [v.shape for v in mine.values()] == [v.shape for v in other.values()]
    theirs.load_state_dict(dict(zip(other, mine.values(), strict=True)))
    x = images(3, 3, 16).double()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)


def test_instance_norm_normalises_every_channel_of_every_image():
    network = networks.build("resnet10", 3, 16, 10, seed=0, width=8, norm="instance")
    with torch.no_grad():
        one_by_one = torch.cat([network(x[None]) for x in images(4, 3, 16)])
        torch.testing.assert_close(network(images(4, 3, 16)), one_by_one, rtol=1e-4, atol=1e-5)
        stem = network.stem[:2](images(4, 3, 16))
    torch.testing.assert_close(stem.mean((2, 3)), torch.zeros(4, 8), rtol=0, atol=1e-5)
    torch.testing.assert_close(stem.var((2, 3), correction=0), torch.ones(4, 8), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("name", "settings", "train"),
    [
        ("resnet10", {}, False),
        ("resnet10", {"norm": "instance"}, False),
        ("densenet121", {"growth": 8}, False),
        # Its last maps hold one value an image here: running variances of 20 values are 5 % off, layer upon layer.
        ("efficientnetv2s", {}, True),
    ],
)
def test_learns_twenty_random_images_by_heart(name, settings, train):
    """Dropout and stochastic depth off and quick running averages, so that a dozen steps are enough."""
    x, labels = images(20, 3, 16), torch.arange(20) % 10
    network = networks.build(name, 3, 16, 10, seed=0, **settings)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
        elif isinstance(getattr(module, "p", None), float):
            module.p = 0.0
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(12):
        optimiser.zero_grad()
        F.cross_entropy(network(x), labels).backward()
        optimiser.step()
    with torch.no_grad():
        assert torch.equal(network.train(train)(x).argmax(1), labels)


@pytest.mark.parametrize(("name", "settings"), EVERY)
def test_a_seed_fixes_the_weights_and_leaves_the_global_generator_alone(name, settings):
    def weights(seed):
        return torch.cat([p.detach().flatten() for p in networks.build(name, 1, 16, 10, seed=seed, **settings).parameters()])

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = weights(3)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, weights(3))
    assert not torch.equal(first, weights(4))


@pytest.mark.parametrize(
    ("name", "size", "settings", "message"),
    [
        ("resnet10", 32, {"norm": "layer"}, "norm: 'layer' is unknown; allowed: batch, instance"),
        ("resnet10", 8, {"norm": "instance"}, "instance norm needs images of 16 pixels or more, not 8"),
        ("densenet121", 4, {}, "needs images of 8 pixels or more, not 4"),
        ("densenet121", 32, {"width": 8}, "width: unknown key; allowed: growth, blocks"),
    ],
)
def test_what_cannot_be_built_says_so(name, size, settings, message):
    with pytest.raises(UserError, match=message) as caught:
        networks.build(name, 3, size, 10, **settings)
    assert f"network {name}" in str(caught.value)

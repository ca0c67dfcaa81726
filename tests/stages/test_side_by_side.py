"""Networks side by side against each by itself, in float64: the same losses, weights and running statistics."""

from dataclasses import replace

import pytest
import torch
from small import CLASSES, SIZE, dataset

from esp_core import networks, side_by_side
from esp_core.datasets import Split
from esp_core.training import Images, protocol, train

SETTINGS = {
    "name": "dsa",
    "epochs": 3,
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "batch": 10,
    "augment": "color_crop_cutout_scale_rotate",
    "milestones": [0.5],
    "gamma": 0.1,
}
NETWORKS = [
    ("convnet3", {"width": 4, "depth": 2}),
    ("resnet10", {"width": 4}),
    ("densenet121", {"growth": 2, "blocks": [1, 1, 1, 1]}),
]


def made(name, settings, size):
    return [networks.build(name, channels=1, size=size, classes=CLASSES, seed=seed, **settings).double() for seed in range(3)]


@pytest.mark.parametrize("cutmix", [0.0, 0.5])
@pytest.mark.parametrize(("name", "settings"), NETWORKS, ids=[name for name, _ in NETWORKS])
def test_stacked_networks_train_as_each_by_itself(name, settings, cutmix):
    data, size = dataset(), SIZE if name == "convnet3" else 16
    exact = data.train.images.double().repeat_interleave(size // SIZE, 2).repeat_interleave(size // SIZE, 3) / 255
    data = replace(data, train=Split(exact, data.train.labels), mean=data.mean.double(), std=data.std.double())
    images, rules = Images(exact, data.train.labels, data), protocol({**SETTINGS, "cutmix": cutmix})
    alone, together = made(name, settings, size), made(name, settings, size)
    expected = [train(network, images, rules, torch.Generator().manual_seed(s)) for s, network in enumerate(alone)]
    found = side_by_side.train(together, images, rules, [torch.Generator().manual_seed(s) for s in range(3)])
    assert len({tuple(curve) for curve in expected}) == 3
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-6, atol=1e-6)
    for one, other in zip(alone, together, strict=True):
        for (key, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-6, atol=1e-8, msg=key)


def test_a_network_that_draws_is_not_stacked():
    class Drawing(torch.nn.Sequential):
        def __init__(self, p):
            super().__init__(torch.nn.Linear(2, 2), torch.nn.Dropout(p))

    assert side_by_side.can_stack(Drawing(0.0)) and not side_by_side.can_stack(Drawing(0.2))
    assert all(side_by_side.can_stack(made(name, settings, 16)[0]) for name, settings in NETWORKS)
    narrow = networks.build("efficientnetv2s", channels=1, size=16, classes=CLASSES, seed=0, width=0.1, depth=0.1)
    assert not side_by_side.can_stack(narrow)

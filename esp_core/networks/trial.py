"""Run a network once on a few empty images, so that an error in it is reported early and in one line."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from esp_core import networks
from esp_core.runtime.errors import UserError

TEACHES = ("features", "classifier")  # what distillation needs of a network, besides its forward pass
SPOKEN = {"features": "features(images)", "intermediates": "intermediates(images)"}


def check(settings: Mapping[str, Any], channels: int, size: int, classes: int, needs: Sequence[str] = ()) -> None:
    """Build the network of `settings`, name included, and run it on images (2, channels, size, size) as in training.

    `needs` names the attributes that it must have. With any, as for a network of distillation (`TEACHES`), it is also run on one image.
    Raises UserError if it cannot be built or run, lacks something, or returns anything but logits (2, classes).
    """
    name, shape = settings["name"], f"{channels} x {size} x {size}"
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = networks.build(**settings, channels=channels, size=size, classes=classes, seed=0)
        for attribute in needs:
            if not hasattr(network, attribute):
                raise UserError(
                    f"network {name}: has no {SPOKEN.get(attribute, attribute)}, which distillation needs; see config/README.md"
                )
        if needs:
            refuse_buffers(name, network)
        for count in (2, 1)[: 1 + bool(needs)]:
            images = torch.zeros(count, channels, size, size)
            with networks.told(name, f"fails on {count} image{'s' * (count > 1)} of {shape}"):
                logits = network(images)
                if "features" in needs:
                    logits = network.classifier(network.features(images))  # type: ignore[operator]
                found = tuple(logits.shape)
            if found != (count, classes):
                raise UserError(f"network {name}: gives {found} for {count} images of {classes} classes; give ({count}, {classes})")


def refuse_buffers(name: str, network: nn.Module) -> None:
    """Raise UserError for a network with running statistics, which trajectories and functional calls cannot hold."""
    if next(network.buffers(), None) is not None:
        raise UserError(
            f"network {name}: it keeps running statistics, which a network that teaches must not have; use convnet3, or norm: instance "
            "where it has that setting"
        )

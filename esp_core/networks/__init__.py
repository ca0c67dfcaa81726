"""Networks by name. Each is a module of this package with `build(channels, size, classes, **settings)`.

A network is a `torch.nn.Module` with `features(images)`, (n, C, H, W) -> (n, F), and `classifier`, F -> classes;
its forward pass is the second after the first. A user's own network is named by import path, "package.module:factory".
"""

import importlib
import inspect
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from esp_core.errors import UserError

NAMES = ("convnet3", "resnet10", "densenet121", "efficientnetv2s")


class Network(Protocol):
    """What training, distillation and evaluation ask of a network."""

    classifier: nn.Linear

    def features(self, images: Tensor) -> Tensor: ...
    def __call__(self, images: Tensor) -> Tensor: ...


def build(name: str, channels: int, size: int, classes: int, *, seed: int | None = None, **settings: Any) -> nn.Module:
    """A freshly initialised network for images (n, channels, size, size).

    `seed` fixes the initial weights without touching torch's global generator; without it they come from that generator.
    Raises UserError for an unknown name or setting.
    """
    factory = _factory(name)
    try:
        inspect.signature(factory).bind(channels, size, classes, **settings)
    except TypeError as error:
        raise UserError(f"network {name}: {error}") from None
    if seed is None:
        return cast(nn.Module, factory(channels, size, classes, **settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cast(nn.Module, factory(channels, size, classes, **settings))


def module_of(name: str) -> str:
    """The module that defines the network `name`."""
    return name.partition(":")[0] if ":" in name else f"esp_core.networks.{name}"


def _factory(name: str) -> Any:
    attribute = name.partition(":")[2] or "build"
    if ":" not in name and name not in NAMES:
        raise UserError(f"network {name}: unknown; use one of {', '.join(NAMES)} or an import path, package.module:factory")
    try:
        return getattr(importlib.import_module(module_of(name)), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"network {name}: {error}") from error

"""Networks by name. Each is a module of this package with `build(channels, size, classes, **settings)`.

A network is a `torch.nn.Module` with `features(images)`, (n, C, H, W) -> (n, F), and `classifier`, F -> classes;
its forward pass is the second after the first. A user's own network is named by import path, "package.module:factory".
"""

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from esp_core.runtime.errors import UserError

NAMES = ("convnet3", "resnet10", "densenet121", "efficientnetv2s")


class Network(Protocol):
    """What training, distillation and evaluation ask of a network."""

    classifier: nn.Linear

    def features(self, images: Tensor) -> Tensor: ...
    def __call__(self, images: Tensor) -> Tensor: ...


def build(name: str, channels: int, size: int, classes: int, *, seed: int | None = None, **settings: Any) -> nn.Module:
    """A freshly initialised network for images (n, channels, size, size).

    `seed` fixes the initial weights without touching torch's global generator; without it they come from that generator.
    Raises UserError for an unknown name or setting, and with one line where the network cannot be built.
    """
    factory = _factory(name)
    try:
        inspect.signature(factory).bind(channels, size, classes, **settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"network {name}: {error}") from None
    with told(name, f"cannot be built for {channels} x {size} x {size} images"):
        made = _made(factory, seed, channels, size, classes, **settings)
    if not isinstance(made, nn.Module):
        raise UserError(f"network {name}: its factory gives {type(made).__name__}; let it return a torch.nn.Module")
    return made


def _made(factory: Any, seed: int | None, *shape: int, **settings: Any) -> Any:
    if seed is None:
        return factory(*shape, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return factory(*shape, **settings)


@contextmanager
def told(name: str, what: str) -> Iterator[None]:
    """Turn whatever the code of the network `name` raises into a UserError of one line, but not a lack of memory."""
    try:
        yield
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"network {name}: {what}: {words[:200]}; correct its settings or its code") from error


def module_of(name: str) -> str:
    """The module that defines the network `name`."""
    return name.partition(":")[0] if ":" in name else f"esp_core.networks.{name}"


def _factory(name: str) -> Any:
    attribute = name.partition(":")[2] or "build"
    if ":" not in name and name not in NAMES:
        raise UserError(f"network {name}: unknown; use one of {', '.join(NAMES)} or an import path, package.module:factory")
    with told(name, "cannot be imported"):
        if ":" in name:  # the module of the user's may import torchvision
            importlib.import_module("esp_core.networks.torchvision_import").load()
        return getattr(importlib.import_module(module_of(name)), attribute)

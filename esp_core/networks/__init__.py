"""Networks by name. Each is a module of this package with `build(channels, size, classes, **settings)`.

A network is a `torch.nn.Module` with `features(images)`, (n, C, H, W) -> (n, F), and `classifier`, F -> classes; its forward pass is
`classifier(features(images))`. A user's own network is named by import path, "package.module:factory".
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from esp_core.runtime.errors import UserError
from esp_core.study import kinds


class Network(Protocol):
    """What training, distillation and evaluation need of a network."""

    classifier: nn.Linear

    def features(self, images: Tensor) -> Tensor: ...
    def __call__(self, images: Tensor) -> Tensor: ...


def build(name: str, channels: int, size: int, classes: int, *, seed: int | None = None, **settings: Any) -> nn.Module:
    """An initialised network for images (n, channels, size, size).

    `seed` fixes the initial weights without touching torch's global generator; without `seed` they come from that generator.
    Raises UserError, of one line, for an unknown name or setting, or if the network cannot be built.
    """
    with told(name, "cannot be imported"):
        if ":" in name:  # a user's module may import torchvision
            importlib.import_module("esp_core.networks.torchvision_import").load()
        factory = kinds.factory("network", name, settings, f"network {name}: ")
    with told(name, f"cannot be built for {channels} x {size} x {size} images"):
        made = _made(factory, seed, channels, size, classes, **settings)
    if not isinstance(made, nn.Module):
        raise UserError(f"network {name}: its factory gives {type(made).__name__}; let it return a torch.nn.Module")
    return made


def _made(factory: Any, seed: int | None, *shape: int, **settings: Any) -> Any:
    if seed is None:
        return factory(*shape, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # unlike torch.manual_seed, does not seed the GPUs
        return factory(*shape, **settings)


@contextmanager
def told(name: str, what: str) -> Iterator[None]:
    """Turn any exception from the code of the network `name` into a UserError of one line, except out-of-memory errors."""
    try:
        yield
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"network {name}: {what}: {words[:200]}; correct its settings or its code") from error

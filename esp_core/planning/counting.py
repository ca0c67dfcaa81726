"""The size of the work: the images of a dataset, and torch's counts on real networks and parametrisations.

Counts are made on torch's `meta` device, where tensors have shapes but no values.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from esp_core import networks, parametrisations
from esp_core.datasets import catalogue
from esp_core.distillation.memory import kept_bytes
from esp_core.parametrisations import Task
from esp_core.runtime.live_memory import LiveBytes
from esp_core.study.config import Study
from esp_core.study.provenance import canonical
from esp_core.training.compile_policy import operations
from esp_core.training.engine import has_batch_norm


@dataclass(frozen=True)
class Shape:
    """Shape and size of a dataset."""

    classes: int
    channels: int
    size: int
    train: int
    test: int
    known: bool = True

    @property
    def values(self) -> int:
        """The number of values in one image."""
        return int(self.channels * self.size**2)


@dataclass(frozen=True)
class Count:
    """Counts for one image in a forward pass: operations (multiply and add are two), values written, calls that write them, and bytes that
    autograd saves for the backward pass; the number of parameters; and whether the network has batch norm."""

    operations: float
    activations: float
    calls: int
    kept: float
    parameters: int
    batch_norm: bool = False


def shape(study: Study, dataset: str) -> Shape:
    """Classes, image shape and number of images of a dataset; a guess for a user's own dataset, which has not been read yet."""
    settings = study.datasets[dataset]
    entry, size = catalogue.ENTRIES.get(settings["kind"]), settings["options"].get("size")
    if entry is None:
        return Shape(10, 3, size or 32, 10_000, 2_000, known=False)
    channels, own, _ = entry.shape
    return Shape(entry.classes, channels, size or own, entry.train, entry.test)


def network(settings: Mapping[str, Any], data: Shape) -> Count:
    """The counts of a network, given by name or import path, on images of `data`. Raises UserError if it cannot be built or run."""
    return _network(canonical(dict(settings)), data)


@cache
def _network(settings: str, data: Shape) -> Count:
    own = json.loads(settings)
    with torch.device("cpu" if ":" in own["name"] else "meta"):  # a user's code may need values
        model = networks.build(**own, channels=data.channels, size=data.size, classes=data.classes, seed=0).eval()
        images = torch.zeros(1, data.channels, data.size, data.size)
    with networks.told(own["name"], f"fails on an image of {data.channels} x {data.size} x {data.size}"):
        return replace(_count(lambda: model(images), list(model.parameters())), batch_norm=has_batch_norm(model))


def synthetic(parametrisation: Mapping[str, Any], ipc: int, data: Shape) -> tuple[int, Count]:
    """The number of images that a condensed set decodes to, and the counts for decoding one. Raises UserError if it exceeds the budget."""
    return _synthetic(canonical(dict(parametrisation)), ipc, data)


@cache
def _synthetic(parametrisation: str, ipc: int, data: Shape) -> tuple[int, Count]:
    with torch.device("meta"):
        task = Task(data.classes, ipc, data.channels, data.size)
        made = parametrisations.build(task, **json.loads(parametrisation))
        tensors, unit = [tensor.requires_grad_() for tensor in made.tensors.values()], torch.arange(1)
        return made.images, _count(lambda: made.decode(unit), tensors, made.images_per_unit)


def _count(forward: Callable[[], object], parameters: Sequence[Tensor], images: int = 1) -> Count:
    """The counts per image, if `forward` processes `images` images."""
    with LiveBytes() as seen:
        found = operations(forward)
    kept = kept_bytes(forward, parameters)
    return Count(found / images, seen.written / images, seen.calls, kept / images, sum(t.numel() for t in parameters))

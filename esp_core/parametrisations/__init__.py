"""From stored numbers to synthetic images. Each kind is a module of this package with `build(task, **settings)`.

A parametrisation stores `tensors` and decodes them, a few units at a time, into normalised images. A unit is the smallest part that
can be decoded alone: an image of `pixels`, or a code of `latent` (one image per decoder). Units are ordered by class.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from esp_core.datasets.normalisation import Normalisation
from esp_core.runtime.errors import UserError
from esp_core.study import kinds
from esp_core.study.budget import Cell


@dataclass(frozen=True)
class Task(Cell):
    """What is condensed: a cell, and the normalisation of its images (by default none)."""

    normalisation: Normalisation = field(default_factory=lambda: Normalisation(torch.zeros(1), torch.ones(1)))


class Parametrisation(ABC):
    """Stored numbers (`tensors`, by name) and the function that decodes them into images."""

    task: Task
    tensors: dict[str, Tensor]
    unit_labels: Tensor  # (units,) int64, CPU
    images_per_unit: int = 1

    @abstractmethod
    def decode(self, units: Tensor) -> Tensor:
        """Unit indices (u,) int64 -> normalised images (u * images_per_unit, C, H, W), unit by unit."""

    @abstractmethod
    def initialise(self, generator: torch.Generator, real: "RealImages | None") -> None:
        """Fill `tensors` from noise or, if the settings say so, from real images."""

    def restrict(self, steps: int) -> None:
        """Bring `tensors` back to values that may be stored, after `steps` outer steps; nothing by default."""

    def labels(self, units: Tensor) -> Tensor:
        """Labels (u * images_per_unit,) int64 of the images of `decode(units)`, on the CPU."""
        return self.unit_labels[units].repeat_interleave(self.images_per_unit)

    @property
    def units(self) -> int:
        return len(self.unit_labels)

    @property
    def images(self) -> int:
        """The number of training images that the set decodes to."""
        return self.units * self.images_per_unit

    @property
    def used(self) -> int:
        """The number of stored float32 values, to compare with `task.budget`."""
        return sum(t.numel() for t in self.tensors.values())

    def to(self, device: torch.device) -> None:
        """Move `tensors` and the normalisation to `device`."""
        self.tensors = {name: t.to(device) for name, t in self.tensors.items()}
        self.task = replace(self.task, normalisation=self.task.normalisation.to(device))


class RealImages(ABC):
    """Source of real images for a parametrisation that starts from them."""

    @abstractmethod
    def pick(self, label: int, count: int, how: str) -> Tensor:
        """`count` normalised training images (count, C, H, W) of class `label`, chosen `how`: "random" or "herding"."""


def build(task: Task, kind: str, **settings: Any) -> Parametrisation:
    """The parametrisation `kind` for `task`, with tensors allocated and zero. Raises UserError for a bad setting or an exceeded budget."""
    made = cast(Parametrisation, kinds.factory("parametrisation", kind, settings, "parametrisation.")(task, **settings))
    if made.used > task.budget and kind != "imported":  # sets made by others may exceed it
        raise UserError(f"parametrisation {kind}: {made.used:,} numbers exceed the budget of {task.budget:,} at IPC {task.ipc}")
    return made

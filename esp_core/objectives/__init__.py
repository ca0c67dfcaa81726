"""Objectives: losses on statistics that add over images. Each kind is a module of this package with `build(**settings)`.

`statistics(batch)` gives sums over the images of a micro-batch, by name; the walk adds them up and calls
`loss(synthetic, real, state)` once, on the sums. Objectives that ask for the same name share it: `gradient` (P,) is the sum
of the per-image parameter gradients, `class_features` (classes, F) and `class_logits` are sums per class. The walk itself
adds `class_count` (classes,) to both sides.
"""

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from esp_core.augment.dsa import Draw
from esp_core.errors import UserError
from esp_core.networks.flat import FlatNetwork

Statistics = Mapping[str, Tensor]


@dataclass
class State:
    """What one outer step sees of the teacher: a network at theta, and, with experts, the segment's subspace."""

    network: FlatNetwork
    theta: Tensor  # (P,)
    classes: int
    draw: Draw  # one augmentation a class, shared by real and synthetic images
    loss: str = "bce"  # the training loss whose gradient G is (Eq. 4)
    basis: Tensor | None = None  # (P, k), orthonormal
    direction: Tensor | None = None  # (P,), theta*_{t+T} - theta*_t


class Batch:
    """A micro-batch of augmented images under a state; what is asked for is computed once."""

    def __init__(self, state: State, images: Tensor, labels: Tensor, *, trace: bool, graph: bool):
        """`images` (n, C, H, W) normalised, `labels` (n,) int64 on the CPU.

        `trace`: G will be asked for; `graph`: keep G differentiable.
        """
        self.state, self.trace, self.graph = state, trace, graph
        self.images = state.draw(images, labels)
        self.labels = labels.to(images.device)
        self.theta = state.theta.detach().requires_grad_(trace)

    @cached_property
    def _outputs(self) -> tuple[Tensor, Tensor]:
        with torch.set_grad_enabled(self.trace or torch.is_grad_enabled()):
            return self.state.network(self.theta, self.images)

    @property
    def features(self) -> Tensor:
        """(n, F), what the classifier sees."""
        return self._outputs[0]

    @property
    def logits(self) -> Tensor:
        """(n, classes)."""
        return self._outputs[1]

    @cached_property
    def gradient(self) -> Tensor:
        """(P,), the sum over the images of the gradient of the training loss (Eq. 4, times the number of images)."""
        with torch.enable_grad():
            loss = training_loss(self.logits, self.labels, self.state.loss)
            return torch.autograd.grad(loss, self.theta, create_graph=self.graph, retain_graph=True)[0]

    def class_sum(self, values: Tensor) -> Tensor:
        """(n, d) -> (classes, d), summed over the images of each class."""
        return torch.zeros(self.state.classes, values.shape[1], dtype=values.dtype, device=values.device).index_add(0, self.labels, values)


def training_loss(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    """Sum over images. "bce": binary cross-entropy on one-hot labels, mean over classes (Eq. 4); "ce": cross-entropy."""
    if kind == "bce":
        target = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / logits.shape[1]
    if kind == "ce":
        return F.cross_entropy(logits, labels, reduction="sum")
    raise UserError(f"loss: {kind!r}; use bce or ce")


class Objective(ABC):
    """A loss on additive statistics.

    `needs_real`: it compares with statistics of real images. `needs_gradient`: its statistics ask for `Batch.gradient`.
    """

    needs_real: bool = True
    needs_gradient: bool = False

    @abstractmethod
    def statistics(self, batch: Batch) -> dict[str, Tensor]:
        """Sums over the images of `batch`, by name."""

    @abstractmethod
    def loss(self, synthetic: Statistics, real: Statistics, state: State) -> Tensor:
        """A scalar from the sums over all synthetic and all real images of the step."""


def build(kind: str, **settings: Any) -> Objective:
    """The objective `kind`. Raises UserError for a setting that it does not have."""
    factory = importlib.import_module(f"esp_core.objectives.{kind}").build
    try:
        inspect.signature(factory).bind(**settings)
    except TypeError as error:
        raise UserError(f"objectives.{kind}: {error}") from None
    return cast(Objective, factory(**settings))

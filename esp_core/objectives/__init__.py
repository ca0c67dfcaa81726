"""Objectives: losses on statistics that are sums over images. Each kind is a module of this package with `build(**settings)`.

`statistics(batch)` returns named sums over the images of a micro-batch. The outer loop adds them over micro-batches and calls
`loss(synthetic, real, state)` once. Objectives that use the same name share the statistic: `gradient` (P,) is the sum of the per-image
parameter gradients; `class_features` (classes, F) and `class_logits` are sums per class. `class_count` (classes,) is always added, on
both sides. A statistic of real images may also have one row per image: names that begin with `each_` are concatenated over
micro-batches, not added.

A loss of another form, such as a trajectory or a kernel, is a `NonAdditive` objective with its own backward pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from esp_core.augment.dsa import Chain, Draw, Placement
from esp_core.networks.flat import FlatNetwork
from esp_core.runtime.errors import UserError
from esp_core.runtime.transfer import send
from esp_core.study import kinds

if TYPE_CHECKING:
    from esp_core.parametrisations import Parametrisation
    from esp_core.training.traced import Traced

Statistics = Mapping[str, Tensor]


@dataclass
class State:
    """What one outer step uses of the teacher: a network at theta and, with experts, the subspace of a segment."""

    network: FlatNetwork
    theta: Tensor  # (P,)
    classes: int
    draw: Draw | Chain  # one augmentation per class, shared by real and synthetic images
    loss: str = "bce"  # the training loss of which G is the gradient (Eq. 4)
    basis: Tensor | None = None  # (P, k), orthonormal
    direction: Tensor | None = None  # (P,), theta*_{t+T} - theta*_t
    target: Tensor | None = None  # (P,), theta*_{t+T}
    ensemble: Tensor | None = None  # (M, P), networks used side by side; theta is the first


class Placed(NamedTuple):
    """The part of a micro-batch that is known before its images: labels (n,) int64 and augmentation, on the device."""

    labels: Tensor
    augment: Placement


def place(state: State, labels: Sequence[Tensor], device: torch.device) -> list[Placed]:
    """`Placed` for micro-batches with `labels` (n,) on the CPU, under the augmentation of `state`, sent to `device` in one copy."""
    return send([Placed(one, state.draw.at(one)) for one in labels], device)


class Batch:
    """A micro-batch of augmented images under a state. Its properties are computed when first used, and once."""

    def __init__(self, state: State, images: Tensor, labels: Tensor, placed: Placed | None = None, *, trace: bool, graph: bool):
        """`images` (n, C, H, W) normalised, `labels` (n,) int64 on the CPU; `placed`: labels and augmentation if already on the device.

        `trace`: G will be used; `graph`: keep G differentiable.
        """
        self.state, self.trace, self.graph, self._on_cpu = state, trace, graph, labels
        self.of_class: Callable[[State, Tensor, Tensor], Tensor] = parameter_gradient  # for use without a graph; can be replaced
        self.labels, augment = placed or place(state, [labels], images.device)[0]
        self.images = augment(images)
        self.theta = state.theta.detach().requires_grad_(trace)

    @cached_property
    def _outputs(self) -> tuple[Tensor, Tensor]:
        with torch.set_grad_enabled(self.trace or torch.is_grad_enabled()):
            return self.state.network(self.theta, self.images)

    @property
    def features(self) -> Tensor:
        """(n, F), the input of the classifier."""
        return self._outputs[0]

    @property
    def logits(self) -> Tensor:
        """(n, classes)."""
        return self._outputs[1]

    @cached_property
    def gradient(self) -> Tensor:
        """(P,), the gradient of the training loss summed over the images (Eq. 4 times the number of images)."""
        with torch.enable_grad():
            loss = training_loss(self.logits, self.labels, self.state.loss)
            return torch.autograd.grad(loss, self.theta, create_graph=self.graph, retain_graph=True)[0]

    @cached_property
    def class_gradient(self) -> Tensor:
        """(classes, P), the gradient of the training loss summed over the images of each class; zero for a class without images."""
        rows = [self._gradient_of(label) for label in range(self.state.classes)]
        return torch.stack([torch.zeros_like(self.theta) if row is None else row for row in rows])

    def _gradient_of(self, label: int) -> Tensor | None:
        own = (self._on_cpu == label).nonzero().squeeze(1)
        if not len(own):
            return None
        first, last = int(own[0]), int(own[-1])
        chosen = slice(first, last + 1) if last - first + 1 == len(own) else own  # slicing copies no indices
        with torch.enable_grad():
            images, labels = self.images[chosen], self.labels[chosen]
        return parameter_gradient(self.state, images, labels, graph=True) if self.graph else self.of_class(self.state, images, labels)

    def class_sum(self, values: Tensor) -> Tensor:
        """(n, d) -> (classes, d), the sum over the images of each class."""
        return self.one_hot.T.to(values.dtype) @ values  # unlike index_add, adds in the same order in every run on any device

    @cached_property
    def one_hot(self) -> Tensor:
        """(n, classes), True at the class of each image."""
        return one_hot(self.labels, self.state.classes)


def parameter_gradient(state: State, images: Tensor, labels: Tensor, graph: bool = False) -> Tensor:
    """(P,), the gradient of the training loss at theta, summed over augmented images (n, C, H, W); `graph`: keep it differentiable."""
    with torch.enable_grad():
        theta = state.theta.detach().requires_grad_()
        loss = training_loss(state.network(theta, images)[1], labels, state.loss)
        return torch.autograd.grad(loss, theta, create_graph=graph)[0]


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """(n,) int64 -> (n, classes) bool. Unlike torch's function it never reads the labels on the host, so it does not wait for a GPU."""
    return labels[:, None] == torch.arange(classes, device=labels.device)


def training_loss(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    """The loss, summed over images. "bce": binary cross-entropy on one-hot labels, mean over classes (Eq. 4); "ce": cross-entropy."""
    if kind == "bce":
        target = one_hot(labels, logits.shape[1]).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / logits.shape[1]
    if kind == "ce":
        return F.cross_entropy(logits, labels, reduction="sum")
    raise UserError(f"loss: {kind!r}; use bce or ce")


class Statistic(ABC):
    """Sums over images. `needs_gradient`: uses `Batch.gradient`; `needs_basis`: uses the basis of an expert segment."""

    needs_gradient: bool = False
    needs_basis: bool = False

    @abstractmethod
    def statistics(self, batch: Batch) -> dict[str, Tensor]:
        """Sums over the images of `batch`, by name."""


class Objective(Statistic):
    """A loss on additive statistics.

    `needs_real`: compares with statistics of real images. `traceable`: its operations depend on tensor shapes, not on values, so it can
    be compiled. `by_class`: if it is not traceable, its gradients of single classes can still be compiled.
    """

    needs_real: bool = True
    traceable: bool = True
    by_class: bool = False

    @abstractmethod
    def loss(self, synthetic: Statistics, real: Statistics, state: State) -> Tensor:
        """The loss, a scalar, from the sums over all synthetic and all real images of the step."""


@dataclass
class OuterStep:
    """What a `NonAdditive` objective may use in one outer step."""

    synthetic: Parametrisation
    units: Tensor  # (u,) int64, the synthetic units of this step
    state: State
    images: Tensor | None  # (n, C, H, W) real images, normalised, not augmented; None if the objective needs none
    labels: Tensor | None  # (n,) int64 on the CPU
    augment: str  # the strategy for `dsa.draw`
    generator: torch.Generator  # of this step; CPU
    traced: Traced | None = None  # runs functions of tensors compiled, if that pays


class NonAdditive(ABC):
    """An objective that is not a loss on additive statistics and has its own backward pass.

    `needs_real`: uses real images. `keeps_graph`: holds the graph of all images and steps in memory at once. `tensors`: numbers learned
    with the synthetic set, each with a learning rate `lr_<name>` in the outer optimiser. `floors`: lower bounds of these numbers,
    enforced by `restrict`.
    """

    needs_real: bool = True
    keeps_graph: bool = False

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.floors: dict[str, float] = {}

    @abstractmethod
    def backward(self, step: OuterStep, weight: float) -> Tensor:
        """Add `weight` times the gradient to `step.synthetic.tensors[...].grad` and `self.tensors[...].grad`.

        Returns the loss, without weight and without a graph.
        """

    def forward_passes(self, images: int, real: int) -> int:
        """Forward passes of one image that a step over `images` synthetic and `real` real images costs, if it uses `OuterStep.traced`."""
        return 0

    def restrict(self) -> None:
        """Called after an outer step: bring `tensors` back into their allowed range; nothing by default."""


def build(kind: str, **settings: Any) -> Objective | NonAdditive:
    """The objective `kind`. Raises UserError for an unknown kind or setting."""
    return cast("Objective | NonAdditive", kinds.factory("objectives", kind, settings, f"objectives.{kind}.")(**settings))

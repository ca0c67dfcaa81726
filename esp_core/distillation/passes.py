"""Forward and backward of one micro-batch: its statistics, and the gradient of a loss on them at the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esp_core.objectives import Batch, Objective, Placed, State, Statistic, Statistics


@dataclass(frozen=True)
class Weighted:
    """An objective and its weight in the outer loss (Eq. 9)."""

    name: str
    objective: Objective
    weight: float


@dataclass(frozen=True)
class Outcome:
    """The weighted loss, each objective's own value, and the synthetic sums."""

    total: Tensor
    values: dict[str, Tensor]
    synthetic: dict[str, Tensor]

    def detached(self) -> Outcome:
        """A copy without a graph."""
        values, synthetic = ({name: t.detach() for name, t in d.items()} for d in (self.values, self.synthetic))
        return Outcome(self.total.detach(), values, synthetic)


class Passes:
    """The passes for the objectives `terms` and for `also`, statistics without a loss, such as the teacher's inner gradient.

    They take a batch of augmented images (n, C, H, W) and return tensors without a graph.
    """

    def __init__(self, terms: Sequence[Weighted], also: Sequence[Statistic] = ()):
        self.terms = [term for term in terms if term.weight]
        self.also = list(also)
        self.wanted: list[Statistic] = [*(term.objective for term in self.terms), *self.also]
        self.traces = any(one.needs_gradient for one in self.wanted)

    @property
    def names(self) -> list[str]:
        """The functions that run compiled: none."""
        return []

    def forget(self) -> None:
        """Called when the number of images a batch changes; nothing here depends on it."""

    def batch(self, state: State, images: Tensor, labels: Tensor, placed: Placed | None = None) -> Batch:
        """Normalised images (n, C, H, W), augmented as `state` says, with labels (n,) on the CPU; `placed`: both already on the device."""
        return Batch(state, images, labels, placed, trace=self.traces, graph=False)

    def sums(self, batch: Batch) -> dict[str, Tensor]:
        """The statistics of all objectives, summed over the batch."""
        with torch.no_grad():
            return {name: value.detach() for name, value in _statistics(self.wanted, batch).items()}

    def back(self, batch: Batch, cotangents: Mapping[str, Tensor]) -> Tensor:
        """The gradient of <statistics, cotangents> at the images of `batch`, (n, C, H, W): a vector-Jacobian product."""
        batch.graph = True
        with torch.enable_grad():
            sums = _statistics([term.objective for term in self.terms], batch)
            total = torch.stack([(sums[name] * cotangent).sum() for name, cotangent in cotangents.items()]).sum()
            return torch.autograd.grad(total, batch.images)[0]

    def whole(self, batch: Batch, real: Statistics) -> tuple[Outcome, Tensor]:
        """For a batch that is the complete set: the loss and its gradient at the images, from one graph."""
        batch.graph = True
        with torch.enable_grad():
            sums = _statistics([term.objective for term in self.terms], batch)
            outcome = self.evaluate(sums, real, batch.state)
            batch.graph = False
            more = _statistics(self.also, batch)
            gradient = torch.autograd.grad(outcome.total, batch.images)[0]
        return Outcome(outcome.total, outcome.values, more | sums).detached(), gradient

    def evaluate(self, synthetic: Statistics, real: Statistics, state: State) -> Outcome:
        """The weighted loss, from the sums over all synthetic and all real images."""
        values = {term.name: term.objective.loss(synthetic, real, state) for term in self.terms}
        total = torch.stack([term.weight * values[term.name] for term in self.terms]).sum()
        return Outcome(total, values, dict(synthetic))


def _statistics(wanted: Sequence[Statistic], batch: Batch) -> dict[str, Tensor]:
    sums: dict[str, Tensor] = {}
    for one in wanted:
        for name, value in one.statistics(batch).items():
            sums.setdefault(name, value)
    return sums | {"class_count": batch.one_hot.sum(0)}

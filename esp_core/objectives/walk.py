"""The gradient of objectives over the complete synthetic set, exact at any micro-batch size.

An objective is a loss on sums over images, so its gradient needs no graph of the whole set. One micro-batch: keep the
graph and go back. Several: a first walk adds the sums up without a graph, the loss gives their cotangents, and a second
walk, under the same augmentation, sends <sums, cotangents> back micro-batch by micro-batch. Decoding is part of the walk,
so memory is that of one micro-batch, whatever the number of images and of inner steps (Section 3.5).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from esp_core.objectives import Batch, Objective, State, Statistics
from esp_core.parametrisations import Parametrisation


@dataclass(frozen=True)
class Weighted:
    """An objective and its weight in the outer loss (Eq. 9)."""

    name: str
    objective: Objective
    weight: float


@dataclass(frozen=True)
class Outcome:
    """The weighted loss, each objective's own value, and the synthetic sums, all without a graph."""

    total: Tensor
    values: dict[str, Tensor]
    synthetic: dict[str, Tensor]


def real_statistics(
    objectives: Sequence[Weighted], images: Tensor, labels: Tensor, state: State, micro_batch: int | None = None
) -> dict[str, Tensor]:
    """Sums over the real images (n, C, H, W), normalised, with labels (n,) on the CPU, in micro-batches and without a graph."""
    wanted = [w.objective for w in objectives if w.objective.needs_real and w.weight]
    trace = any(o.needs_gradient for o in wanted)
    sums: dict[str, Tensor] = {}
    size = micro_batch or max(1, len(images))
    for part, names in zip(images.split(size), labels.split(size), strict=True):
        with torch.no_grad():
            _add(sums, _statistics(wanted, Batch(state, part, names, trace=trace, graph=False)))
    return sums


def backward(
    objectives: Sequence[Weighted],
    synthetic: Parametrisation,
    real: Statistics,
    state: State,
    *,
    units: Tensor | None = None,
    micro_batch: int | None = None,
    also: Sequence[Objective] = (),
) -> Outcome:
    """Add the gradient of the weighted loss to `synthetic.tensors[...].grad`.

    No objective is a gradient of zero.
    `units`: the synthetic units of this step, all by default. `micro_batch`: images alive at once, all by default.
    `also`: objectives whose statistics are wanted without a loss; the teacher's inner gradient, for one.
    """
    objectives = [w for w in objectives if w.weight]
    units = torch.arange(synthetic.units) if units is None else units
    parts = units.split(len(units) if micro_batch is None else max(1, micro_batch // synthetic.images_per_unit))
    walk = _Walk([w.objective for w in objectives], also, synthetic, state)
    if not objectives:
        return Outcome(torch.zeros(()), {}, walk.sums(parts) if also else {})
    if len(parts) == 1:
        batch = walk.batch(parts[0], graph=True)
        sums = _statistics(walk.losses, batch)
        outcome = _evaluate(objectives, sums, real, state)
        batch.graph = False
        outcome = replace(outcome, synthetic=_statistics(also, batch) | sums)
        outcome.total.backward(inputs=walk.targets)
        return _detached(outcome)
    leaves = {name: t.requires_grad_(t.is_floating_point()) for name, t in walk.sums(parts).items()}
    outcome = replace(_evaluate(objectives, leaves, real, state), synthetic=leaves)
    outcome.total.backward()
    walk.send_back(parts, {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None})
    return _detached(outcome)


@dataclass(frozen=True)
class _Walk:
    losses: Sequence[Objective]
    also: Sequence[Objective]
    synthetic: Parametrisation
    state: State

    @property
    def targets(self) -> list[Tensor]:
        return [t for t in self.synthetic.tensors.values() if t.requires_grad]

    def batch(self, units: Tensor, *, graph: bool) -> Batch:
        trace = any(o.needs_gradient for o in [*self.losses, *self.also])
        return Batch(self.state, self.synthetic.decode(units), self.synthetic.labels(units), trace=trace, graph=graph)

    def sums(self, parts: Sequence[Tensor]) -> dict[str, Tensor]:
        sums: dict[str, Tensor] = {}
        for part in parts:
            with torch.no_grad():
                _add(sums, _statistics([*self.losses, *self.also], self.batch(part, graph=False)))
        return sums

    def send_back(self, parts: Sequence[Tensor], cotangents: Mapping[str, Tensor]) -> None:
        for part in parts:
            again = _statistics(self.losses, self.batch(part, graph=True))
            torch.stack([(again[name] * cotangent).sum() for name, cotangent in cotangents.items()]).sum().backward(inputs=self.targets)


def _statistics(objectives: Sequence[Objective], batch: Batch) -> dict[str, Tensor]:
    sums: dict[str, Tensor] = {}
    for objective in objectives:
        for name, value in objective.statistics(batch).items():
            sums.setdefault(name, value)
    return sums | {"class_count": torch.bincount(batch.labels, minlength=batch.state.classes)}


def _add(sums: dict[str, Tensor], more: Mapping[str, Tensor]) -> None:
    for name, value in more.items():
        if name not in sums:
            sums[name] = value.detach()
        elif name.startswith("each_"):
            sums[name] = torch.cat([sums[name], value.detach()])
        else:
            sums[name] = sums[name] + value.detach()


def _evaluate(objectives: Sequence[Weighted], synthetic: Statistics, real: Statistics, state: State) -> Outcome:
    values = {w.name: w.objective.loss(synthetic, real, state) for w in objectives}
    return Outcome(torch.stack([w.weight * values[w.name] for w in objectives]).sum(), values, {})


def _detached(outcome: Outcome) -> Outcome:
    values, synthetic = ({name: t.detach() for name, t in d.items()} for d in (outcome.values, outcome.synthetic))
    return Outcome(outcome.total.detach(), values, synthetic)

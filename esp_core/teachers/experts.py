"""`experts`: start at the first snapshot of an expert segment and take N inner steps on the synthetic set (Algorithm 1)."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from esp_core.augment.dsa import Chain, Draw
from esp_core.objectives import Batch, State, Statistic, Statistics
from esp_core.runtime import seeds
from esp_core.runtime.errors import UserError
from esp_core.teachers import Context, Teacher
from esp_core.trajectories import subspace


class _InnerGradient(Statistic):
    """G (Eq. 4), for the inner step."""

    needs_gradient = True

    def statistics(self, batch: Batch) -> dict[str, Tensor]:
        return {"gradient": batch.gradient}


class Experts(Teacher):
    """Every `steps` outer steps, draw a random expert and a random start in [0, start_max], and set theta to the snapshot there.

    After each outer step theta moves by -lr G; with `projected`, the step is projected onto the span of the segment (Eq. 5 and 6).
    `length` is T, in epochs; `steps` is N; `basis` is "raw" (T + 1 snapshots, Eq. 2) or "difference" (T differences).
    """

    def __init__(
        self, context: Context, length: int, steps: int, start_max: int, lr: float, projected: bool, basis: subspace.Kind, loss: str
    ):
        if context.experts is None:
            raise UserError("teacher.kind: experts needs trajectories; give --experts or use teacher.kind: random")
        if start_max + length >= context.experts.snapshots:
            raise UserError(
                f"teacher: start_max {start_max} + length {length} needs {start_max + length + 1} snapshots an expert, "
                f"the store keeps {context.experts.snapshots}; raise experts.keep or lower teacher.start_max"
            )
        self.context, self.experts = context, context.experts
        self.length, self.steps, self.start_max = length, steps, start_max
        self.lr, self.projected, self.kind, self.loss = lr, projected, basis, loss
        self.wants = (_InnerGradient(),) if steps > 1 else ()
        self.spans = context.needs_basis or (projected and steps > 1)
        self._segment = -1
        self._theta: Tensor

    def state(self, step: int, draw: Draw | Chain) -> State:
        if step // self.steps != self._segment:
            self._open(step // self.steps)
            self._theta = self._first
        return State(
            self.context.network,
            self._theta,
            self.context.classes,
            draw,
            loss=self.loss,
            basis=self._basis,
            direction=self._direction,
            target=self._target,
        )

    def _open(self, number: int) -> None:
        generator = seeds.generator(*self.context.seed, "segment", number)
        expert = int(torch.randint(len(self.experts), (1,), generator=generator))
        start = int(torch.randint(self.start_max + 1, (1,), generator=generator))
        snapshots = self.experts.segment(expert, start, self.length)
        self._segment, self._first = number, snapshots[0]
        self._basis = subspace.basis(snapshots, self.kind) if self.spans else None
        self._direction, self._target = snapshots[-1] - snapshots[0], snapshots[-1]

    def advance(self, synthetic: Statistics) -> None:
        if not self.wants:
            return
        gradient = synthetic["gradient"] / synthetic["class_count"].sum()
        step = subspace.project(self._basis, gradient) if self.projected and self._basis is not None else gradient
        self._theta = self._theta - self.lr * step

    def checkpoint(self) -> dict[str, Tensor]:
        return {"theta": self._theta, "segment": torch.tensor(self._segment)}

    def resume(self, saved: dict[str, Tensor]) -> None:
        self._open(int(saved["segment"]))
        self._theta = saved["theta"].to(self.context.device)


def build(
    context: Context,
    length: Annotated[int, ">= 1"] = 5,
    steps: Annotated[int, ">= 1"] = 5,
    start_max: Annotated[int, ">= 0"] = 20,
    lr: Annotated[float, "> 0"] = 0.1,
    projected: bool = True,
    basis: Literal["raw", "difference"] = "raw",
    loss: Literal["bce", "ce"] = "bce",
) -> Experts:
    """See `Experts`; what the paper does not state is our choice (docs/choices.md).

    length: T, the length of a segment, in epochs; open in the paper, MTT takes 2 or 3
    steps: N, the inner steps on a segment; open, "intentionally smaller than T" where T counts steps (ESP Section 3.1)
    start_max: the last epoch at which a segment may start; open, MTT takes 2 to 40
    lr: learning rate of the inner step; ESP Section 4.2
    projected: whether the inner step is projected onto the expert subspace; ESP Eq. 5 and 6
    basis: what spans the subspace, the T + 1 snapshots or their T differences; raw, ESP Eq. 2
    loss: the loss whose gradient is G, binary cross-entropy on one-hot labels or cross-entropy; bce, ESP Eq. 4
    """
    return Experts(context, length, steps, start_max, lr, projected, basis, loss)

"""`projection`: penalise the part of the synthetic gradient outside the expert subspace (Eq. 7)."""

from typing import Literal

from torch import Tensor

from esp_core.objectives import Batch, Objective, State, Statistics
from esp_core.runtime.errors import UserError
from esp_core.trajectories import subspace

TEACHER = "experts"
WEIGHT = 0.00001  # beta, ESP Section 4.2


class Projection(Objective):
    """||G - E E^T G||, where G is the mean gradient over the complete synthetic set (Eq. 4 to 7).

    `norm`: "l1", as in Eq. 7, or "l2", as in the text beside it. `form`: "residual", as printed, or "relative", divided by ||G|| in
    the same norm, so that shrinking G does not lower the loss.
    """

    needs_real = False
    needs_gradient = True
    needs_basis = True

    def __init__(self, norm: str, form: str):
        self.order, self.form = (1 if norm == "l1" else 2), form

    def statistics(self, batch: Batch) -> dict[str, Tensor]:
        return {"gradient": batch.gradient}

    def loss(self, synthetic: Statistics, real: Statistics, state: State) -> Tensor:
        if state.basis is None:
            raise UserError("objectives.projection: needs a subspace; use teacher.kind: experts")
        gradient = synthetic["gradient"] / synthetic["class_count"].sum()
        left = subspace.residual(state.basis, gradient).norm(p=self.order)
        return left if self.form == "residual" else left / gradient.norm(p=self.order)


def build(norm: Literal["l1", "l2"] = "l1", form: Literal["residual", "relative"] = "residual") -> Projection:
    """See `Projection`.

    norm: norm of the residual gradient; l1, ESP Eq. 7; l2, the text below Eq. 8
    form: the residual itself, ESP Eq. 7, or relative, divided by the norm of G; ours
    """
    return Projection(norm, form)

"""`projection`: penalise the part of the synthetic gradient that leaves the expert subspace (Eq. 7)."""

from torch import Tensor

from esp_core.objectives import Batch, Objective, State, Statistics
from esp_core.runtime.errors import UserError
from esp_core.trajectories import subspace


class Projection(Objective):
    """||G - E E^T G|| with G the mean gradient over the complete synthetic set (Eq. 4 to 7).

    `norm`: "l1" as Eq. 7 prints, or "l2" as the text beside it says. `form`: "residual" as printed, or "relative", divided by
    ||G|| in the same norm, which a vanishing G does not minimise.
    """

    needs_real = False
    needs_gradient = True

    def __init__(self, norm: str = "l1", form: str = "residual"):
        if norm not in ("l1", "l2"):
            raise UserError(f"objectives.projection.norm: {norm!r}; use l1 or l2")
        if form not in ("residual", "relative"):
            raise UserError(f"objectives.projection.form: {form!r}; use residual or relative")
        self.order, self.form = (1 if norm == "l1" else 2), form

    def statistics(self, batch: Batch) -> dict[str, Tensor]:
        return {"gradient": batch.gradient}

    def loss(self, synthetic: Statistics, real: Statistics, state: State) -> Tensor:
        if state.basis is None:
            raise UserError("objectives.projection: needs a subspace; use teacher.kind: experts")
        gradient = synthetic["gradient"] / synthetic["class_count"].sum()
        left = subspace.residual(state.basis, gradient).norm(p=self.order)
        return left if self.form == "residual" else left / gradient.norm(p=self.order)


def build(norm: str = "l1", form: str = "residual") -> Projection:
    """See `Projection`."""
    return Projection(norm, form)

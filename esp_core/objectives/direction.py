"""`direction`: the projection term with a sign, ours. The projection cannot tell a gradient step along the expert's path from one
against it, since both lie in the subspace. This term prefers a step along the path."""

import torch.nn.functional as F
from torch import Tensor

from esp_core.objectives import Batch, Objective, State, Statistics
from esp_core.runtime.errors import UserError

TEACHER = "experts"


class Direction(Objective):
    """1 + cos(G, theta*_{t+T} - theta*_t): 0 if a gradient step goes in the expert's direction, 2 if it goes in the opposite one."""

    needs_real = False
    needs_gradient = True

    def statistics(self, batch: Batch) -> dict[str, Tensor]:
        return {"gradient": batch.gradient}

    def loss(self, synthetic: Statistics, real: Statistics, state: State) -> Tensor:
        if state.direction is None:
            raise UserError("objectives.direction: needs a segment; use teacher.kind: experts")
        return 1 + F.cosine_similarity(synthetic["gradient"], state.direction, dim=0)


def build() -> Direction:
    """See `Direction`."""
    return Direction()

"""`direction`: a signed companion of the projection term, ours. A span has no sign: a gradient that lies in the expert
subspace may walk the expert's way or back. This term asks for the expert's way."""

import torch.nn.functional as F
from torch import Tensor

from esp_core.objectives import Batch, Objective, State, Statistics
from esp_core.runtime.errors import UserError

TEACHER = "experts"


class Direction(Objective):
    """1 + cos(G, theta*_{t+T} - theta*_t): 0 where a gradient step walks the expert's way, 2 where it walks back."""

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

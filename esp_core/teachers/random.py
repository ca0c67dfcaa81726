"""`random`: new random networks in every step, never trained (DM, KFS)."""

from typing import Annotated

import torch

from esp_core.augment.dsa import Chain, Draw
from esp_core.objectives import State
from esp_core.runtime import seeds
from esp_core.teachers import Context, Teacher


class Random(Teacher):
    """Initialises `count` new networks in every outer step, from (seed, step); theta is the first of them."""

    def __init__(self, context: Context, count: int):
        self.context, self.count = context, count

    def state(self, step: int, draw: Draw | Chain) -> State:
        names = [("network", step), *(("network", step, k) for k in range(1, self.count))]
        ensemble = torch.stack([self.context.fresh(seeds.derive(*self.context.seed, *name)) for name in names])
        ensemble = ensemble.to(self.context.device)
        return State(self.context.network, ensemble[0], self.context.classes, draw, ensemble=ensemble)


def build(context: Context, count: Annotated[int, ">= 1"] = 1) -> Random:
    """See `Random`.

    count: networks that are used side by side, only the objective kernel uses more than one; DM, 1, and RFAD's random features, 8
    """
    return Random(context, count)

"""`random`: new random networks at every step, never trained (DM, KFS)."""

from typing import Annotated, Any

import torch

from esp_core.runtime import seeds
from esp_core.teachers import Classroom, Teacher


class Random(Teacher):
    """`count` networks are drawn afresh at every outer step from (seed, step); theta is the first of them."""

    def __init__(self, classroom: Classroom, count: int):
        self.classroom, self.count = classroom, count

    def state(self, step: int) -> dict[str, Any]:
        names = [("network", step), *(("network", step, k) for k in range(1, self.count))]
        ensemble = torch.stack([self.classroom.fresh(seeds.derive(*self.classroom.seed, *name)) for name in names])
        ensemble = ensemble.to(self.classroom.device)
        return {"theta": ensemble[0], "ensemble": ensemble}


def build(classroom: Classroom, count: Annotated[int, ">= 1"] = 1) -> Random:
    """See `Random`.

    count: networks that are used side by side, only the objective kernel uses more than one; DM, 1, and RFAD's random features, 8
    """
    return Random(classroom, count)

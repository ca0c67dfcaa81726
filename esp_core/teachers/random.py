"""`random`: new random networks at every step, never trained (DM, KFS)."""

from typing import Any

import torch

from esp_core.runtime import seeds
from esp_core.runtime.errors import UserError
from esp_core.teachers import Classroom, Teacher


class Random(Teacher):
    """`count` networks are drawn afresh at every outer step from (seed, step); theta is the first of them."""

    def __init__(self, classroom: Classroom, count: int = 1):
        if count < 1:
            raise UserError(f"teacher.count: {count}; use at least 1")
        self.classroom, self.count = classroom, count

    def state(self, step: int) -> dict[str, Any]:
        names = [("network", step), *(("network", step, k) for k in range(1, self.count))]
        ensemble = torch.stack([self.classroom.fresh(seeds.derive(*self.classroom.seed, *name)) for name in names])
        ensemble = ensemble.to(self.classroom.device)
        return {"theta": ensemble[0], "ensemble": ensemble}


def build(classroom: Classroom, count: int = 1) -> Random:
    """See `Random`."""
    return Random(classroom, count)

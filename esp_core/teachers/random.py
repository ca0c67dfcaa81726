"""`random`: a new random network at every step, never trained (DM, KFS)."""

from typing import Any

from esp_core import seeds
from esp_core.teachers import Classroom, Teacher


class Random(Teacher):
    """theta is drawn afresh at every outer step from (seed, step)."""

    def __init__(self, classroom: Classroom):
        self.classroom = classroom

    def state(self, step: int) -> dict[str, Any]:
        theta = self.classroom.fresh(seeds.derive(*self.classroom.seed, "network", step))
        return {"theta": theta.to(self.classroom.device)}


def build(classroom: Classroom) -> Random:
    """See `Random`; it has no settings."""
    return Random(classroom)

"""`imported`: images that other people's code made, any number of each class (stages/import_set.py)."""

from collections.abc import Sequence
from typing import Annotated

import torch

from esp_core.parametrisations import Task
from esp_core.parametrisations.formation import Formation

GROUPS = ("pixels",)


class Imported(Formation):
    """`tensors["pixels"]` (n, C, H, W), normalised, class by class; each image holds factor x factor small ones, as in IDC."""

    def __init__(self, task: Task, counts: Sequence[int], factor: int):
        super().__init__(task, factor, "noise", 0)
        each = counts or [task.ipc] * task.classes
        self.unit_labels = torch.cat([torch.full((count,), label) for label, count in enumerate(each)])
        self.tensors = {"pixels": torch.zeros(len(self.unit_labels), task.channels, task.size, task.size)}


def build(task: Task, counts: Sequence[int] = (), factor: Annotated[int, ">= 1"] = 1) -> Imported:
    """See `Imported`. This kind alone may exceed the budget of `task`: sets made by others are counted, not refused.

    counts: images of each class; IPC of each unless given
    factor: small images along a side of a stored one; IDC's code
    """
    return Imported(task, counts, factor)

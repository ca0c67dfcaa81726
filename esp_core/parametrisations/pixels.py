"""`pixels`: the stored numbers are the images themselves, IPC a class, as in DC, DSA, DM, CAFE and MTT."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from esp_core.parametrisations import Parametrisation, RealImages, Task
from esp_core.runtime.errors import UserError

GROUPS = ("pixels",)


class Pixels(Parametrisation):
    """`tensors["pixels"]` (classes * IPC, C, H, W), normalised, so that published learning rates apply.

    `init`: "noise" (standard normal, Algorithm 1), "random" real images, or real images chosen by "herding".
    `clamp`: clamp the pixels to [0, 1] (before normalisation) after every `clamp` outer steps; 0: never.
    """

    def __init__(self, task: Task, init: str, clamp: int):
        self.task, self.init, self.clamp = task, init, clamp
        self.unit_labels = torch.arange(task.classes).repeat_interleave(task.ipc)
        self.tensors = {"pixels": torch.zeros(task.classes * task.ipc, task.channels, task.size, task.size)}

    def initialise(self, generator: torch.Generator, real: RealImages | None) -> None:
        pixels = self.tensors["pixels"]
        if self.init == "noise":
            pixels.copy_(torch.randn(pixels.shape, generator=generator))
        elif real is None:
            raise UserError(f"parametrisation.init: {self.init} needs real images")
        else:
            pixels.copy_(torch.cat([real.pick(label, self.task.ipc, self.init) for label in range(self.task.classes)]))
        self.restrict(0)

    def decode(self, units: Tensor) -> Tensor:
        pixels = self.tensors["pixels"]
        return pixels[units.to(pixels.device)]

    def restrict(self, steps: int) -> None:
        if self.clamp and steps % self.clamp == 0:
            with torch.no_grad():
                pixels = self.tensors["pixels"]
                pixels.copy_(self.task.normalisation.clamp(pixels))


def build(task: Task, init: Literal["noise", "random", "herding"] = "noise", clamp: Annotated[int, ">= 0"] = 0) -> Pixels:
    """See `Pixels`: the images themselves are stored, as in DC, DSA, DM and MTT.

    init: what the pixels start from; noise, ESP Algorithm 1; random real images, DM, DSA and MTT
    clamp: bring the pixels back to what an image can show after every so many outer steps, 0 never does; the code of DC, DSA, DM, CAFE and
        MTT never does
    """
    return Pixels(task, init, clamp)

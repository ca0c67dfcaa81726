"""`latent`: codes per class and small decoders that all classes share; every code goes through every decoder.

The idea is from KFS (Lee, Lee and Hwang, 2022), whose shapes and decoders were never published; ESP uses it too (Section 4.2).
The design here is ours, chosen by measurement (docs/choices.md). Codes and decoders together never hold more than
IPC x classes x C x H x W numbers.
"""

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from esp_core.parametrisations import Parametrisation, RealImages, Task
from esp_core.runtime.errors import UserError
from esp_core.study.budget import codes_per_class

GROUPS = ("codes", "decoders")


class Latent(Parametrisation):
    """`tensors["codes"]` (classes * K, cz, h, w), and the weights of all decoders stacked, `decoder.<layer>.<name>`.

    Each layer doubles the side (nearest) and convolves; every layer except the last also normalises each decoder's channels and
    applies ReLU. The last layer ends in a sigmoid, so every decoded image lies in [0, 1].
    """

    def __init__(self, task: Task, decoders: int, code_channels: int, width: int, upsamplings: int, init: str):
        self.task, self.init = task, init
        self.decoders, self.upsamplings = decoders, upsamplings
        self.images_per_unit = decoders
        count = codes_per_class(task, decoders, code_channels, width, upsamplings)
        side = task.size // 2**upsamplings
        self.unit_labels = torch.arange(task.classes).repeat_interleave(count)
        self.tensors = {"codes": torch.zeros(task.classes * count, code_channels, side, side)}
        inputs = code_channels
        for layer in range(upsamplings):
            last = layer == upsamplings - 1
            outputs = task.channels if last else width
            self.tensors[f"decoder.{layer}.weight"] = torch.zeros(decoders * outputs, inputs, 3, 3)
            self.tensors[f"decoder.{layer}.bias"] = torch.zeros(decoders * outputs)
            if not last:
                self.tensors[f"decoder.{layer}.scale"] = torch.ones(decoders * outputs)
                self.tensors[f"decoder.{layer}.shift"] = torch.zeros(decoders * outputs)
            inputs = outputs

    def initialise(self, generator: torch.Generator, real: RealImages | None) -> None:
        for name, tensor in self.tensors.items():
            if name.endswith("weight"):
                bound = 1 / math.sqrt(tensor[0].numel())
                tensor.copy_((torch.rand(tensor.shape, generator=generator) * 2 - 1) * bound)
        codes = self.tensors["codes"]
        codes.copy_(torch.randn(codes.shape, generator=generator))
        if self.init == "random":
            self._codes_from(real)

    def _codes_from(self, real: RealImages | None) -> None:
        """Write average-pooled real images into the first channels of the codes; the other channels keep their noise."""
        if real is None:
            raise UserError("parametrisation.init: random needs real images")
        codes = self.tensors["codes"]
        count = len(codes) // self.task.classes
        pooled = torch.cat([real.pick(label, count, "random") for label in range(self.task.classes)])
        pooled = F.adaptive_avg_pool2d(pooled, codes.shape[-1])
        shared = min(codes.shape[1], pooled.shape[1])
        codes[:, :shared] = pooled[:, :shared]

    def decode(self, units: Tensor) -> Tensor:
        codes = self.tensors["codes"]
        x = codes[units.to(codes.device)]
        for layer in range(self.upsamplings):
            weight, bias = self.tensors[f"decoder.{layer}.weight"], self.tensors[f"decoder.{layer}.bias"]
            # All decoders read the same code in the first layer and their own channels afterwards.
            x = F.conv2d(_doubled(x), weight, bias, padding=1, groups=1 if layer == 0 else self.decoders)
            if layer < self.upsamplings - 1:
                scale, shift = self.tensors[f"decoder.{layer}.scale"], self.tensors[f"decoder.{layer}.shift"]
                x = F.group_norm(x, self.decoders, scale, shift).relu()
        images = x.reshape(-1, self.task.channels, self.task.size, self.task.size).sigmoid()
        return self.task.normalisation.normalise(images)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def build(
    task: Task,
    decoders: Annotated[int, ">= 1"] = 8,
    code_channels: Annotated[int, ">= 1"] = 4,
    width: Annotated[int, ">= 1"] = 8,
    upsamplings: Annotated[int, ">= 1"] = 2,
    init: Literal["noise", "random"] = "noise",
) -> Latent:
    """Codes and decoders that use the budget of `task`; see `Latent` and `codes_per_class`.

    KFS's shapes were never published. Ours fill the same budget: 80 images a class at IPC 1 of 10 classes of 32x32 pixels.

    decoders: each code gives one image per decoder; ours
    code_channels: channels of a code; ours
    width: channels inside a decoder; ours
    upsamplings: times that a decoder doubles the side of a code; ours
    init: what the codes start from; noise, ESP Algorithm 1
    """
    return Latent(task, decoders, code_channels, width, upsamplings, init)

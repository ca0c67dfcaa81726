"""`formation`: each stored image holds factor x factor small ones, enlarged before use (IDC, Kim et al., 2022)."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from esp_core.parametrisations import RealImages, Task
from esp_core.parametrisations.pixels import Pixels
from esp_core.study.budget import check_factor

GROUPS = ("pixels",)


class Formation(Pixels):
    """Stored pixels cut into tiles, which are the images: IPC x factor^2 a class, each enlarged bilinearly to full size.

    Initialised from real images, a tile is a real image downsampled by nearest sampling (IDC's "mix").
    """

    def __init__(self, task: Task, factor: int, init: str, clamp: int):
        check_factor(task, factor)
        super().__init__(task, init, clamp)
        self.factor = factor
        self.images_per_unit = factor**2

    def initialise(self, generator: torch.Generator, real: RealImages | None) -> None:
        if self.init == "noise" or real is None:
            super().initialise(generator, real)
            return
        count = self.task.ipc * self.images_per_unit
        picked = torch.cat([real.pick(label, count, self.init) for label in range(self.task.classes)])
        small = picked[:, :, :: self.factor, :: self.factor]
        self.tensors["pixels"].copy_(self._joined(small))
        self.restrict(0)

    def decode(self, units: Tensor) -> Tensor:
        tiles = self._tiles(super().decode(units))
        # As products with a matrix: on a GPU the gradient of torch's bilinear interpolation adds up in no fixed order.
        with torch.no_grad():
            ones = torch.eye(tiles.shape[-1], device=tiles.device, dtype=tiles.dtype)
            along = F.interpolate(ones[None], size=self.task.size, mode="linear", align_corners=False)[0]
        return along.T @ tiles @ along

    def _tiles(self, images: Tensor) -> Tensor:
        """(u, C, H, W) -> (u * factor^2, C, H / factor, W / factor), row by row."""
        f, side = self.factor, self.task.size // self.factor
        cut = images.reshape(len(images), self.task.channels, f, side, f, side)
        return cut.permute(0, 2, 4, 1, 3, 5).reshape(-1, self.task.channels, side, side)

    def _joined(self, tiles: Tensor) -> Tensor:
        """The inverse of `_tiles`."""
        f, side = self.factor, self.task.size // self.factor
        grid = tiles.reshape(-1, f, f, self.task.channels, side, side)
        return grid.permute(0, 3, 1, 4, 2, 5).reshape(-1, self.task.channels, f * side, f * side)


def build(
    task: Task,
    factor: Annotated[int, ">= 1"] = 2,
    init: Literal["noise", "random", "herding"] = "random",
    clamp: Annotated[int, ">= 0"] = 100,
) -> Formation:
    """See `Formation`; the numbers are those of IDC's code.

    factor: small images along a side of a stored one
    init: what the small images start from
    clamp: bring the pixels back to what an image can show after every so many outer steps, 0 never does; IDC's code, before each network
        of 100 steps
    """
    return Formation(task, factor, init, clamp)

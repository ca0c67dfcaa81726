"""Differentiable siamese augmentation (Zhao and Bilen, 2021): one operation per draw, which can be replayed on any batch.

A draw is made on the CPU from a generator and then applied to real and synthetic images alike, and again to the same images in the second
pass. Operations and strengths are those of DSA's "S" mode. Crop and scale are products with two small matrices. Their gradients, and the
gradient of a rotation, add up in a fixed order on a GPU too. Images are normalised, so zero is the mean colour.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from esp_core.runtime.errors import UserError
from esp_core.runtime.transfer import send

OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")
BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
CROP, CUTOUT = 0.125, 0.5  # of the image's side
SCALE, ROTATE = 1.2, 15.0  # factor, degrees
ORDERED = ("cpu",)  # where torch's own gradient of a rotation adds up in a fixed order; it is faster there than ours


class Share(NamedTuple):
    """The images that one operation changes, `where` (m,) int64 (None: all), and their random numbers, (m, 4)."""

    operation: str
    where: Tensor | None
    uniforms: Tensor


class Placement(NamedTuple):
    """Draws assigned to particular images; can be applied repeatedly. `send` copies it to the images' device."""

    rounds: tuple[tuple[Share, ...], ...]  # applied in turn; the shares of a round cover different images

    def __call__(self, images: Tensor) -> Tensor:
        """Augment the images (n, C, H, W) that it was made for."""
        for shares in self.rounds:
            out = images
            for operation, where, uniforms in shares:
                if where is None and len(uniforms) != len(images):
                    raise ValueError(f"{len(images)} images for {len(uniforms)} draws")
                chosen = images if where is None else images.index_select(0, where)
                changed = _APPLY[operation](chosen, uniforms.to(images.dtype))
                out = changed if where is None else out.index_copy(0, where, changed)
            images = out
        return images


@dataclass(frozen=True)
class Draw:
    """An operation and four uniform random numbers for each of `len(operations)` groups of images."""

    operations: tuple[str, ...]
    uniforms: Tensor  # (groups, 4) in [0, 1), CPU

    def at(self, group: Tensor | None = None) -> Placement:
        """The draws for images: image i takes draw `group[i]` ((n,) int64, CPU), or draw i without `group`. The result is on the CPU."""
        u = self.uniforms if group is None else self.uniforms[group]
        if len(set(self.operations)) == 1:
            return Placement(((Share(self.operations[0], None, u),) if self.operations[0] != "none" else (),))
        code = torch.tensor([_ORDER.index(op) for op in self.operations])
        code = code if group is None else code[group]
        places = [(operation, (code == i).nonzero().squeeze(1)) for i, operation in enumerate(_ORDER)]
        return Placement((tuple(Share(operation, at, u[at]) for operation, at in places if len(at) and operation != "none"),))

    def __call__(self, images: Tensor, group: Tensor | None = None) -> Tensor:
        """Augment images (n, C, H, W); `group` as in `at`."""
        return send(self.at(group), images.device)(images)


@dataclass(frozen=True)
class Chain:
    """Draws that are applied in turn."""

    draws: tuple[Draw, ...]

    def at(self, group: Tensor | None = None) -> Placement:
        """As in `Draw`."""
        return Placement(tuple(one for draw in self.draws for one in draw.at(group).rounds))

    def __call__(self, images: Tensor, group: Tensor | None = None) -> Tensor:
        """As in `Draw`."""
        return send(self.at(group), images.device)(images)


def parse(strategy: str) -> tuple[str, ...]:
    """The operations of a strategy such as "color_crop_cutout_flip_scale_rotate"; none for "none"."""
    operations = () if strategy in ("", "none") else tuple(strategy.split("_"))
    if unknown := set(operations) - set(OPERATIONS):
        raise UserError(f"augment: unknown operation {', '.join(sorted(unknown))}; use {'_'.join(OPERATIONS)} or a part of it")
    return operations


def draw(strategy: str, groups: int, generator: torch.Generator, *, same_operation: bool = False) -> Draw | Chain:
    """Draw an operation for each of `groups` groups, or one for all with `same_operation`, and the random numbers of each group.

    A strategy of parts joined by + draws one operation from each part, in order: "color+crop_scale" is colour, then crop or scale.

    Training draws one operation per batch and numbers per image (`same_operation`, groups = images). Matching draws both per class and
    shares them between the real and the synthetic images of that class.
    """
    if "+" in strategy:
        return Chain(tuple(cast(Draw, draw(part, groups, generator, same_operation=same_operation)) for part in strategy.split("+")))
    operations = parse(strategy) or ("none",)
    picks = torch.randint(len(operations), (1 if same_operation else groups,), generator=generator).tolist()
    names = tuple(operations[i] for i in picks)
    return Draw(names * groups if same_operation else names, torch.rand(groups, 4, generator=generator))


def _color(x: Tensor, u: Tensor) -> Tensor:
    b, s, c = (u[:, i].view(-1, 1, 1, 1) for i in range(3))
    x = x + (b - 0.5) * BRIGHTNESS
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (s * SATURATION) + grey
    level = x.mean((1, 2, 3), keepdim=True)
    return (x - level) * (c + CONTRAST) + level


def _cutout(x: Tensor, u: Tensor) -> Tensor:
    side = x.shape[-1]
    hole = int(side * CUTOUT + 0.5)
    # The centre is anywhere in the image, so part of the hole may be outside.
    low = (u[:, :2] * (side + 1 - hole % 2)).floor() - hole // 2  # (n, 2)
    line = torch.arange(side, device=x.device)
    inside = (line >= low[..., None]) & (line < low[..., None] + hole)  # (n, 2, side)
    keep = ~(inside[:, 0, :, None] & inside[:, 1, None, :])
    return x * keep[:, None]


def _crop(x: Tensor, u: Tensor) -> Tensor:
    side = x.shape[-1]
    reach = int(side * CROP + 0.5)
    shift = (u[:, :2] * (2 * reach + 1)).floor() - reach  # whole pixels
    return _resample(x, _line(x) + shift[..., None])


def _flip(x: Tensor, u: Tensor) -> Tensor:
    return torch.where(u[:, 0].view(-1, 1, 1, 1) < 0.5, x.flip(3), x)


def _scale(x: Tensor, u: Tensor) -> Tensor:
    factor = u[:, :2] * (SCALE - 1 / SCALE) + 1 / SCALE
    middle = (x.shape[-1] - 1) / 2
    return _resample(x, (_line(x) - middle) * factor[..., None] + middle)


def _line(x: Tensor) -> Tensor:
    return torch.arange(x.shape[-1], device=x.device, dtype=x.dtype)


def _resample(x: Tensor, at: Tensor) -> Tensor:
    """Sample square x at columns `at[:, 0]` and rows `at[:, 1]`, (n, 2, side) in pixels, by linear interpolation; zeros outside."""
    columns, rows = (1 - (at[..., None] - _line(x)).abs()).clamp(min=0).unsqueeze(2).unbind(1)  # weights (n, 1, side, side)
    return rows @ x @ columns.transpose(2, 3)


def _rotate(x: Tensor, u: Tensor) -> Tensor:
    angle = (u[:, 0] - 0.5) * (2 * ROTATE * math.pi / 180)
    return _sampled(x, angle) if x.device.type in ORDERED else rotation(x, angle)


def rotation(x: Tensor, angle: Tensor) -> Tensor:
    """`_sampled`, with a gradient that adds up in a fixed order on every device."""
    return cast(Tensor, _Rotation.apply(x, angle, False))  # type: ignore[no-untyped-call]


class _Rotation(torch.autograd.Function):
    """`_sampled` with `_spread` as its gradient, and vice versa."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, angle: Tensor, backward: bool) -> Tensor:
        ctx.save_for_backward(angle)
        ctx.other = not backward
        return _spread(x, angle) if backward else _sampled(x, angle)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Rotation.apply(gradient, *ctx.saved_tensors, ctx.other), None, None  # type: ignore[no-untyped-call]


def _sampled(x: Tensor, angle: Tensor) -> Tensor:
    """Square x (n, C, S, S) rotated about its centre by `angle` (n,), by linear interpolation; zeros outside."""
    cos, sin, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    grid = F.affine_grid(torch.stack([cos, -sin, none, sin, cos, none], 1).view(-1, 2, 3), list(x.shape), align_corners=True)
    return F.grid_sample(x, grid, padding_mode="zeros", align_corners=True)


def _spread(x: Tensor, angle: Tensor) -> Tensor:
    """The transpose of `_sampled`: each input pixel gathers from nine output pixels around the place to which it is rotated.

    `_sampled` reads an input pixel for the output pixels that, rotated, are less than a pixel away from it in x and in y. Up to 15 degrees
    they are within sin + cos < 1.23 pixels of that place, so they are among its nine nearest pixels.
    """
    side, middle = x.shape[-1], (x.shape[-1] - 1) / 2
    line, beside = _line(x) - middle, torch.arange(-1.0, 2.0, device=x.device, dtype=x.dtype)
    here = torch.stack(torch.meshgrid(line, line, indexing="xy")).view(2, 1, -1)  # (x and y, 1, pixels)
    nine = torch.stack(torch.meshgrid(beside, beside, indexing="xy")).view(2, -1, 1)
    places = (_turned(here, -angle) + middle).round() + nine  # (n, 2, 9, pixels)
    weights = (1 - (_turned(places - middle, angle) - here).abs()).clamp(min=0).prod(1) * ((places >= 0) & (places < side)).all(1)
    columns, rows = places.clamp(0, side - 1).long().unbind(1)
    found = x.flatten(2).gather(2, (rows * side + columns).flatten(1)[:, None].expand(-1, x.shape[1], -1))
    return (found.unflatten(2, (9, -1)) * weights[:, None]).sum(2).view_as(x)


def _turned(places: Tensor, angle: Tensor) -> Tensor:
    """Points (x and y in the third dimension from the end) rotated by each `angle` (n,): (n, 2, …)."""
    cos, sin = (value.view(-1, 1, 1) for value in (angle.cos(), angle.sin()))
    x, y = places.unbind(-3)
    return torch.stack([cos * x - sin * y, sin * x + cos * y], 1)


_APPLY = {"color": _color, "crop": _crop, "cutout": _cutout, "flip": _flip, "scale": _scale, "rotate": _rotate}
_ORDER = ("none", *OPERATIONS)

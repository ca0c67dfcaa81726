"""Differentiable siamese augmentation (Zhao and Bilen, 2021): one operation per draw, replayable on any batch.

A draw is made on the CPU from a generator and then applied: to the real and the synthetic images alike, and to the
same images again on a second walk. Operations and strengths are those of DSA's "S" mode. Crop and scale are products with two small
matrices; their gradients and that of a rotation have one order of sums on a GPU too. Images are normalised, so zero is the mean colour.
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
ORDERED = ("cpu",)  # where torch's own gradient of a rotation adds up in one order; it is faster there than ours


class Share(NamedTuple):
    """The images that one operation takes, `where` (m,) int64 or all of them, and its numbers for each, (m, 4)."""

    operation: str
    where: Tensor | None
    uniforms: Tensor


class Placement(NamedTuple):
    """Draws for particular images, to be applied to them as often as needed. `send` takes it to the images' device."""

    rounds: tuple[tuple[Share, ...], ...]  # one after the other; the shares of one have different images

    def __call__(self, images: Tensor) -> Tensor:
        """Augment images (n, C, H, W), those that it was made for."""
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
    """One operation and its four uniform numbers for each of `len(operations)` groups of images."""

    operations: tuple[str, ...]
    uniforms: Tensor  # (groups, 4) in [0, 1), CPU

    def at(self, group: Tensor | None = None) -> Placement:
        """For images of which image i takes draw `group[i]` ((n,) int64, CPU), or draw i without `group`; on the CPU."""
        u = self.uniforms if group is None else self.uniforms[group]
        if len(set(self.operations)) == 1:
            return Placement(((Share(self.operations[0], None, u),) if self.operations[0] != "none" else (),))
        code = torch.tensor([_ORDER.index(op) for op in self.operations])
        code = code if group is None else code[group]
        places = [(operation, (code == i).nonzero().squeeze(1)) for i, operation in enumerate(_ORDER)]
        return Placement((tuple(Share(operation, at, u[at]) for operation, at in places if len(at) and operation != "none"),))

    def __call__(self, images: Tensor, group: Tensor | None = None) -> Tensor:
        """Augment images (n, C, H, W), see `at`."""
        return send(self.at(group), images.device)(images)


@dataclass(frozen=True)
class Chain:
    """Draws that are applied one after the other."""

    draws: tuple[Draw, ...]

    def at(self, group: Tensor | None = None) -> Placement:
        """As `Draw`."""
        return Placement(tuple(one for draw in self.draws for one in draw.at(group).rounds))

    def __call__(self, images: Tensor, group: Tensor | None = None) -> Tensor:
        """As `Draw`."""
        return send(self.at(group), images.device)(images)


def parse(strategy: str) -> tuple[str, ...]:
    """The operations of a strategy such as "color_crop_cutout_flip_scale_rotate"; "none" is the empty one."""
    operations = () if strategy in ("", "none") else tuple(strategy.split("_"))
    if unknown := set(operations) - set(OPERATIONS):
        raise UserError(f"augment: unknown operation {', '.join(sorted(unknown))}; use {'_'.join(OPERATIONS)} or a part of it")
    return operations


def draw(strategy: str, groups: int, generator: torch.Generator, *, same_operation: bool = False) -> Draw | Chain:
    """Draw an operation for each of `groups` groups, or one for all with `same_operation`, and their numbers.

    A strategy of several joined by + takes one of each, in their order: "color+crop_scale" is colour, then crop or scale.

    Training draws one operation a batch and numbers per image (`same_operation`, groups = images); matching draws one of
    each per class and shares it between the real and the synthetic images of that class.
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
    # The centre lies anywhere in the image, so that part of the hole may fall outside it.
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
    """Square x at columns `at[:, 0]` and rows `at[:, 1]`, (n, 2, side) in pixels, linearly between two neighbours; zeros outside."""
    columns, rows = (1 - (at[..., None] - _line(x)).abs()).clamp(min=0).unsqueeze(2).unbind(1)  # weights (n, 1, side, side)
    return rows @ x @ columns.transpose(2, 3)


def _rotate(x: Tensor, u: Tensor) -> Tensor:
    angle = (u[:, 0] - 0.5) * (2 * ROTATE * math.pi / 180)
    return _sampled(x, angle) if x.device.type in ORDERED else rotation(x, angle)


def rotation(x: Tensor, angle: Tensor) -> Tensor:
    """`_sampled`, with a gradient that adds up in one order on every device."""
    return cast(Tensor, _Rotation.apply(x, angle, False))  # type: ignore[no-untyped-call]


class _Rotation(torch.autograd.Function):
    """`_sampled` with `_spread` as its gradient, and the reverse."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, angle: Tensor, backward: bool) -> Tensor:
        ctx.save_for_backward(angle)
        ctx.other = not backward
        return _spread(x, angle) if backward else _sampled(x, angle)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Rotation.apply(gradient, *ctx.saved_tensors, ctx.other), None, None  # type: ignore[no-untyped-call]


def _sampled(x: Tensor, angle: Tensor) -> Tensor:
    """Square x (n, C, S, S), turned about its middle by `angle` (n,), linearly between neighbours; zeros outside."""
    cos, sin, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    grid = F.affine_grid(torch.stack([cos, -sin, none, sin, cos, none], 1).view(-1, 2, 3), list(x.shape), align_corners=True)
    return F.grid_sample(x, grid, padding_mode="zeros", align_corners=True)


def _spread(x: Tensor, angle: Tensor) -> Tensor:
    """The transpose of `_sampled`: each pixel gathers from the nine around the place where it went.

    A pixel is read by those whose own place, turned, is less than a pixel away in x and in y. Up to 15 degrees these lie within
    sin + cos < 1.23 pixels of where it went, so among the nine that are nearest.
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
    """Places, x and y in the last dimension but two, turned by each `angle` (n,): (n, 2, …)."""
    cos, sin = (value.view(-1, 1, 1) for value in (angle.cos(), angle.sin()))
    x, y = places.unbind(-3)
    return torch.stack([cos * x - sin * y, sin * x + cos * y], 1)


_APPLY = {"color": _color, "crop": _crop, "cutout": _cutout, "flip": _flip, "scale": _scale, "rotate": _rotate}
_ORDER = ("none", *OPERATIONS)

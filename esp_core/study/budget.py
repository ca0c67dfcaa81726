"""Whether a parametrisation fits a cell, by arithmetic alone. No torch: the Snakefile imports this to refuse early what is too large."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from esp_core.runtime.errors import UserError


@dataclass(frozen=True)
class Cell:
    """`ipc` images of shape (channels, size, size) per class."""

    classes: int
    ipc: int
    channels: int
    size: int

    @property
    def budget(self) -> int:
        """The budget, IPC x classes x C x H x W float32 numbers (Table 1, "Param./Class", times the classes)."""
        return self.ipc * self.classes * self.channels * self.size**2


MOST_WHITENED = 4096  # numbers of an image; the whitening matrix takes 67 MB in every condensed set


def too_large_to_whiten(channels: int, size: int) -> str:
    """Why images cannot be whitened; "" if they can."""
    if (numbers := channels * size**2) <= MOST_WHITENED:
        return ""
    matrix = f"a whitening matrix of {4e-6 * numbers**2:,.0f} MB in every condensed set"
    return f"images of {numbers:,} numbers would need {matrix}; allowed: whiten null, or at most {MOST_WHITENED:,} numbers"


def check(parametrisation: Mapping[str, Any], cell: Cell) -> None:
    """Raise UserError if a parametrisation (kind and settings) does not fit `cell`. Only two kinds are checked; others always fit."""
    settings = {key: value for key, value in parametrisation.items() if key not in ("kind", "init")}
    if parametrisation["kind"] == "latent":
        codes_per_class(cell, **settings)
    elif parametrisation["kind"] == "formation":
        check_factor(cell, settings["factor"])


def check_factor(cell: Cell, factor: int) -> None:
    """Raise UserError if images cannot be cut into factor x factor tiles."""
    if factor < 1 or cell.size % factor:
        raise UserError(f"parametrisation.factor: {factor} does not divide {cell.size} pixels")


def decoder_numbers(channels: int, code_channels: int, width: int, upsamplings: int) -> int:
    """Numbers in one decoder: `upsamplings` 3x3 convolutions with bias, and scale and shift of a norm after all except the last."""
    inputs = [code_channels] + [width] * (upsamplings - 1)
    outputs = [width] * (upsamplings - 1) + [channels]
    convolutions = sum(9 * i * o + o for i, o in zip(inputs, outputs, strict=True))
    return convolutions + 2 * width * (upsamplings - 1)


def codes_per_class(cell: Cell, decoders: int, code_channels: int, width: int, upsamplings: int) -> int:
    """The largest number of codes per class that fits the budget beside the decoders.

    Raises UserError, naming the smallest IPC that fits, if there is no room for one code per class.
    """
    side = cell.size // 2**upsamplings
    if side < 1 or side * 2**upsamplings != cell.size:
        raise UserError(f"parametrisation.upsamplings: {upsamplings} does not divide {cell.size} pixels into whole codes")
    shared = decoders * decoder_numbers(cell.channels, code_channels, width, upsamplings)
    per_code = cell.classes * code_channels * side**2
    count = (cell.budget - shared) // per_code
    if count < 1:
        smallest = math.ceil((shared + per_code) / (cell.budget / cell.ipc))
        raise UserError(
            f"parametrisation latent: {decoders} decoders take {shared:,} of {cell.budget:,} numbers at IPC {cell.ipc} and leave no "
            f"room for a code a class ({per_code:,}); the smallest IPC for this design is {smallest}; lower decoders or width"
        )
    return count

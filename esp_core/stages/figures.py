"""Stage `figures`: pictures of condensed sets (ESP Figures 3-6), as PNG and PDF.

    python -m esp_core figures grid --spec JSON --condensed S.safetensors… --out FIGURE.png

A figure has a panel for every set, methods below one another and IPCs side by side; a panel has a row for every class.
"""

import argparse
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from esp_core.reporting.saving import save
from esp_core.runtime.errors import UserError, command
from esp_core.study import jobspec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from esp_core.distillation.condensed import Condensed

Pixels = NDArray[np.float32]

# All lengths are pixels of the PNG, at DPI of them an inch.
DPI = 100
SIDE = 48  # an image is shown at least this large
GAP = 2  # between images
SPACE = 24  # between panels
TITLE = 40  # two lines above a panel
LONGEST = 16  # letters of a class's name
TALLEST = 25  # classes in one stack; more go into stacks side by side
WIDEST = 16  # images across all stacks of a panel

# Sizes of type in points.
NAME_SIZE, TITLE_SIZE, HEADING_SIZE = 8, 9, 13


@dataclass(frozen=True)
class Panel:
    """A condensed set as stacks of rows: names of the classes, and the picture (height, width, 3) of their images in [0, 1]."""

    method: str
    ipc: int
    title: str
    stacks: list[tuple[list[str], Pixels]]

    @property
    def margin(self) -> int:
        """Room for the names to the left of a stack."""
        return 14 + max(_text_width(name, NAME_SIZE) for names, _ in self.stacks for name in names)

    @property
    def width(self) -> int:
        title = self.margin + max(_text_width(line, TITLE_SIZE) for line in self.title.split("\n"))
        return max(title, sum(self.margin + int(picture.shape[1]) for _, picture in self.stacks))

    @property
    def height(self) -> int:
        return TITLE + int(self.stacks[0][1].shape[0])


def panel(condensed: "Condensed", method: str, title: str, most: int = 10) -> Panel:
    """Up to `most` images of every class, evenly spaced over those that the set decodes to, enlarged without smoothing."""
    images = condensed.images.clamp(0, 1).numpy()
    places = [np.flatnonzero(condensed.labels.numpy() == label) for label in range(len(condensed.classes))]
    stacks = -(-len(places) // TALLEST)
    columns = min(most, max(2, WIDEST // stacks), max(map(len, places)))
    rows = -(-len(places) // stacks)
    pictures = []
    for first in range(0, len(places), rows):
        part = slice(first, first + rows)
        chosen = [where[_spread(len(where), columns)] for where in places[part]]
        pictures.append(([_short(name) for name in condensed.classes[part]], _mosaic(images, chosen, columns)))
    counts = sorted({len(where) for where in places})
    total = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    ipc = condensed.task.ipc
    return Panel(method, ipc, f"{_literal(title)}, IPC {ipc}\n{columns} of {total} images a class", pictures)


def grid(panels: list[Panel], heading: str) -> "Figure":
    """The panels under one heading: a row a method, in order of appearance, a column an IPC."""
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(p.method for p in panels))
    ipcs = sorted({p.ipc for p in panels})
    widths = [max(p.width for p in panels if p.ipc == ipc) for ipc in ipcs]
    heights = [max(p.height for p in panels if p.method == method) for method in methods]
    width = max(sum(widths) + SPACE * (len(ipcs) + 1), _text_width(heading, HEADING_SIZE) + 2 * SPACE)
    height = TITLE + sum(heights) + SPACE * (len(methods) + 1)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    figure.text(SPACE / width, 1 - SPACE / height, heading, fontsize=HEADING_SIZE, va="top")
    for p in panels:
        column, row = ipcs.index(p.ipc), methods.index(p.method)
        left = sum(widths[:column]) + SPACE * (column + 1)
        top = TITLE + sum(heights[:row]) + SPACE * (row + 1)
        _draw(figure, p, left, top)
    return figure


def run_grid(spec: dict[str, Any], paths: list[Path], out: Path) -> None:
    """Draw the condensed sets at `paths`, all of one dataset, into `out` and its .pdf. Raises UserError for another's set."""
    from esp_core.datasets.catalogue import ENTRIES
    from esp_core.distillation.condensed import load_condensed

    dataset = spec["dataset"]
    panels = []
    for path in paths:
        condensed = load_condensed(path)
        made = {"dataset": "something else", "method": path.stem} | condensed.metadata.get("spec", {})
        if made["dataset"] != dataset:
            raise UserError(f"{path}: condenses {made['dataset']}, not {dataset}; leave it out")
        panels.append(panel(condensed, made["method"], spec["titles"].get(made["method"], made["method"])))
    heading = ENTRIES[dataset].title if dataset in ENTRIES else dataset
    save(grid(panels, f"{_literal(heading)}: synthetic images"), out)
    print(f"{out}: {len(panels)} condensed sets")


def _draw(figure: "Figure", p: Panel, left: int, top: int) -> None:
    width, height = figure.get_size_inches() * DPI
    figure.text((left + p.margin) / width, 1 - top / height, p.title, fontsize=TITLE_SIZE, va="top")
    top += TITLE
    for names, picture in p.stacks:
        left += p.margin
        rows, columns, _ = picture.shape
        axes = figure.add_axes((left / width, 1 - (top + rows) / height, columns / width, rows / height))
        axes.imshow(picture, interpolation="nearest", aspect="auto", vmin=0, vmax=1)
        axes.set_axis_off()
        step = (rows + GAP) / len(names)
        for i, name in enumerate(names):
            axes.text(-6, (i + 0.5) * step - GAP / 2, name, fontsize=NAME_SIZE, ha="right", va="center")
        left += columns


def _mosaic(images: Pixels, chosen: list[NDArray[np.intp]], columns: int) -> Pixels:
    """The images (n, C, H, W) at `chosen`, a row a class, on white; colour for three channels, else the grey of their mean."""
    size = images.shape[-1]
    factor = -(-SIDE // size)
    cell = size * factor + GAP
    picture = np.ones((len(chosen) * cell - GAP, columns * cell - GAP, 3), dtype=np.float32)
    for row, indices in enumerate(chosen):
        for column, image in enumerate(images[indices]):
            colour = image if len(image) == 3 else image.mean(0, keepdims=True).repeat(3, 0)
            large = colour.repeat(factor, 1).repeat(factor, 2).transpose(1, 2, 0)
            picture[row * cell : row * cell + size * factor, column * cell : column * cell + size * factor] = large
    return picture


def _spread(count: int, most: int) -> NDArray[np.intp]:
    """`most` places, or all where there are no more, evenly spaced over 0 … count - 1."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.intp)


@cache
def _text_width(text: str, size: int) -> int:
    """Pixels that `text` takes at `size` points."""
    from matplotlib.textpath import TextPath

    return math.ceil(TextPath((0, 0), text, size=size).get_extents().width * DPI / 72) if text.strip() else 0


def _short(name: str) -> str:
    return _literal(name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…")


def _literal(text: str) -> str:
    """`text` such that matplotlib reads no formula into its dollars."""
    return text.replace("$", r"\$")


@command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m esp_core figures", description=(__doc__ or "").partition("\n")[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    one = kinds.add_parser("grid", help="the images of a dataset's condensed sets, a row a class")
    one.add_argument("--spec", type=jobspec.read, required=True, help="JSON, as `python -m esp_core study CONFIG figures NAME` prints it")
    one.add_argument("--condensed", type=Path, nargs="+", required=True, help="condensed sets, .safetensors")
    one.add_argument("--out", type=Path, required=True, help="the figure, .png; .pdf is written beside it")
    args = parser.parse_args()
    run_grid(args.spec, args.condensed, args.out)

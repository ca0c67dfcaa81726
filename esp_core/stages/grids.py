"""Stage `grids`: pictures of condensed sets (ESP Figures 3-6 and 9), as PNG and PDF.

    python -m esp_core grids --spec JSON --condensed S.safetensors… --out FIGURE.png

A figure has a panel for every set, methods in rows and IPCs in columns; a panel has a row for every class.
"""

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from esp_core.reporting.saving import save
from esp_core.runtime.errors import UserError, command
from esp_core.study import arguments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from esp_core.distillation.condensed import Condensed

Pixels = NDArray[np.float32]

# All lengths are in pixels of the PNG; a pixel of an image becomes a square of them.
DPI = 100
SIDE = 48  # an image is shown at least this large
GAP = 2  # between images
SPACE = 24  # between panels
TITLE = 40  # two lines above a panel
LETTER = 8  # width of a letter of a class's name or a title
LONGEST = 16  # letters of a class's name
TALLEST = 25  # classes in one stack; further ones go into stacks beside it
WIDEST = 16  # images across all stacks of a panel


@dataclass(frozen=True)
class Panel:
    """A condensed set as stacks of rows: class names, and the picture (height, width, 3) of their images in [0, 1]."""

    method: str
    ipc: int
    title: str
    stacks: list[tuple[list[str], Pixels]]

    @property
    def margin(self) -> int:
        """Width of the names to the left of a stack."""
        return 14 + LETTER * max(len(name) for names, _ in self.stacks for name in names)

    @property
    def width(self) -> int:
        title = self.margin + LETTER * max(map(len, self.title.split("\n")))
        return max(title, sum(self.margin + picture.shape[1] for _, picture in self.stacks))


def panel(condensed: "Condensed", method: str, title: str, most: int = 10) -> Panel:
    """Up to `most` images of every class, evenly spaced over its decoded images, enlarged without smoothing."""
    images = condensed.images.clamp(0, 1).numpy()
    places = [np.flatnonzero(condensed.labels.numpy() == label) for label in range(len(condensed.classes))]
    names = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in condensed.classes]
    stacks = -(-len(places) // TALLEST)
    rows = -(-len(places) // stacks)
    columns = min(most, max(2, WIDEST // stacks), max(map(len, places)))
    chosen = [images[where[np.linspace(0, len(where) - 1, min(len(where), columns)).round().astype(int)]] for where in places]
    parts = [slice(first, first + rows) for first in range(0, len(places), rows)]
    total = " to ".join(str(count) for count in sorted({min(map(len, places)), max(map(len, places))}))
    ipc, pictures = condensed.task.ipc, [(names[part], _mosaic(chosen[part], columns)) for part in parts]
    return Panel(method, ipc, f"{title}, IPC {ipc}\n{columns} of {total} images a class", pictures)


def grid(panels: list[Panel], heading: str) -> "Figure":
    """The panels under one heading: a row for each method, in order of appearance, and a column for each IPC."""
    from matplotlib.figure import Figure

    methods, ipcs = list(dict.fromkeys(p.method for p in panels)), sorted({p.ipc for p in panels})
    heights = [SPACE + TITLE + max(p.stacks[0][1].shape[0] for p in panels if p.method == method) for method in methods]
    widths = [SPACE + max(p.width for p in panels if p.ipc == ipc) for ipc in ipcs]
    width, height = max(sum(widths), 2 * LETTER * len(heading)) + SPACE, TITLE + sum(heights) + SPACE
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    write: dict[str, Any] = {"va": "top", "parse_math": False}
    axes.text(SPACE, SPACE, heading, fontsize=13, **write)
    lefts, tops = list(accumulate(widths, initial=SPACE)), list(accumulate(heights, initial=TITLE + SPACE))
    for p in panels:
        left, top = lefts[ipcs.index(p.ipc)], tops[methods.index(p.method)]
        axes.text(left + p.margin, top, p.title, fontsize=9, **write)
        for names, picture in p.stacks:
            left += p.margin
            rows, columns, _ = picture.shape
            box = (left, left + columns, top + TITLE + rows, top + TITLE)
            axes.imshow(picture, interpolation="nearest", aspect="auto", vmin=0, vmax=1, extent=box)
            for i, name in enumerate(names):
                middle = top + TITLE + (i + 0.5) * (rows + GAP) / len(names) - GAP / 2
                axes.text(left - 6, middle, name, fontsize=8, ha="right", **{**write, "va": "center"})
            left += columns
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure


def _mosaic(images: list[Pixels], columns: int) -> Pixels:
    """The images of each class, (n, C, H, W), on white, a row per class; in colour, or grey (the channels' mean) if not three channels."""
    size = images[0].shape[-1]
    side = size * -(-SIDE // size)
    picture = np.ones((len(images), side + GAP, columns, side + GAP, 3), dtype=np.float32)
    for row, some in enumerate(images):
        colour = some if some.shape[1] == 3 else some.mean(1, keepdims=True).repeat(3, 1)
        picture[row, :side, : len(some), :side] = colour.repeat(side // size, 2).repeat(side // size, 3).transpose(2, 0, 3, 1)
    return picture.reshape(len(images) * (side + GAP), columns * (side + GAP), 3)[:-GAP, :-GAP]


def run(spec: dict[str, Any], condensed: list[Path], out: Path) -> None:
    """Draw the condensed sets at `condensed`, all of one dataset, into `out` and its .pdf. Raises UserError for a set of another."""
    from esp_core.datasets.catalogue import ENTRIES
    from esp_core.distillation.condensed import load_condensed

    dataset = spec["dataset"]
    panels = []
    for path in condensed:
        one = load_condensed(path)
        made = {"dataset": "something else", "method": path.stem} | one.metadata.get("spec", {})
        if made["dataset"] != dataset:
            raise UserError(f"{path}: condenses {made['dataset']}, not {dataset}; leave it out")
        panels.append(panel(one, made["method"], spec["titles"].get(made["method"], made["method"])))
    save(grid(panels, f"{ENTRIES[dataset].title if dataset in ENTRIES else dataset}: synthetic images"), out)
    print(f"{out}: {len(panels)} condensed sets")


@command
def main() -> None:
    parser = arguments.parser("grids", __doc__, "the figure, .png; .pdf is written beside it")
    parser.add_argument("--condensed", type=Path, nargs="+", required=True, help="condensed sets, .safetensors")
    run(**vars(parser.parse_args()))

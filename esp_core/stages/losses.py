"""Stage `losses`: plot the losses of one cell, in distillation and in the training of its networks, as PNG and PDF.

    python -m esp_core losses --spec JSON --condensed S.safetensors… --rows ROWS.csv… --out LOSSES.png

Each term of the outer loss has a panel, with a line per method, from the sets' headers; each network has one, the mean over seeds.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from esp_core.reporting import reading
from esp_core.reporting.saving import save
from esp_core.runtime.errors import command
from esp_core.stages.plots import STYLES
from esp_core.study import arguments
from esp_core.study.layouts import DATASET_TITLES, NETWORK_TITLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = list[tuple[int, float]]
Panels = dict[tuple[str, str], dict[str, Curve]]  # by (title, unit of the x axis), then by method
WIDE = 3  # panels side by side


def parsed(text: str) -> Curve:
    """The (step, value) pairs of "20:0.5 40:0.25"."""
    pairs = (one.split(":") for one in text.split())
    return [(int(at), float(value)) for at, value in pairs]


def distilled(paths: Iterable[Path]) -> Panels:
    """For each objective its values, without weight, in every condensed set that records them."""
    from esp_core.distillation.condensed import load_condensed

    panels: Panels = defaultdict(dict)
    for header in (load_condensed(path).metadata for path in paths):
        for name, text in header.get("losses", {}).items():
            panels[name, "outer step"][header["spec"]["method"]] = parsed(text)
    return panels


def trained(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, str], dict[str, Curve]]]:
    """For each network the training loss of every method, mean over seeds."""
    frame = frame[frame.get("curve", pd.Series("", frame.index)).fillna("") != ""]  # rows of an earlier version have none
    for network, part in frame.groupby("network", sort=False):
        curves = {}
        for method, runs in part.groupby("method", sort=False):
            mean = pd.DataFrame([dict(parsed(text)) for text in runs.curve]).mean()
            curves[str(method)] = list(zip(map(int, mean.index), mean, strict=True))
        yield (f"training loss, {NETWORK_TITLES.get(str(network), network)}", "epoch"), curves


def draw(panels: Panels, heading: str, titles: dict[str, str]) -> "Figure":
    """A panel for each term and network; losses on a logarithmic scale if they are positive."""
    from matplotlib.figure import Figure

    high = -(-len(panels) // WIDE)
    figure = Figure(figsize=(4 * WIDE, 3.2 * high + 0.8), dpi=100, layout="constrained")
    methods = list(dict.fromkeys(method for curves in panels.values() for method in curves))
    looks = {method: (STYLES[i % len(STYLES)][1], f"C{i}") for i, method in enumerate(methods)}
    handles = {}
    for place, ((title, counted), curves) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(high, WIDE, place)
        for method, curve in curves.items():
            dash, colour = looks[method]
            handles[titles.get(method, method)], *_ = axes.plot(*zip(*curve, strict=True), ls=dash, color=colour)
        axes.set(title=title, xlabel=counted, yscale="log" if all(value > 0 for c in curves.values() for _, value in c) else "linear")
        axes.grid(axis="y", color="0.9")
    figure.suptitle(heading)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, frameon=False)
    return figure


def run(spec: dict[str, Any], condensed: Iterable[Path], rows: Iterable[Path], out: Path) -> None:
    """Draw the losses of the cell of `spec` into `out`, a .png, and its .pdf."""
    panels = distilled(condensed)
    panels.update(trained(reading.read(rows)))
    save(draw(panels, f"{DATASET_TITLES.get(spec['dataset'], spec['dataset'])}, IPC {spec['ipc']}", spec["titles"]), out)


@command
def main() -> None:
    parser = arguments.parser("losses", __doc__, "the figure, .png; .pdf is written beside it")
    parser.add_argument("--condensed", type=Path, nargs="*", default=[], help="condensed sets of the cell, .safetensors")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="the per-seed rows of runs on them, .csv")
    run(**vars(parser.parse_args()))

"""Stage `plots`: plot memory (ESP Figure 7) and accuracy against the synthetic batch (Figure 8).

    python -m esp_core plots --spec JSON --rows figure7.csv --out figure7.png
    python -m esp_core plots --spec JSON --rows ROWS.csv… --out figure8.png

Lines differ in marker and dash, not only in colour, so that they can be told apart in print. Figure 8 also writes its numbers as .csv.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from esp_core.reporting import reading
from esp_core.reporting.saving import save
from esp_core.runtime.errors import UserError, command
from esp_core.runtime.files import write
from esp_core.study import arguments
from esp_core.study.layouts import DATASET_TITLES, NETWORK_TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLAIN = ":plain"
STYLES = [("o", "-", "0.0"), ("s", "--", "0.35"), ("^", ":", "0.0"), ("D", "-.", "0.5"), ("v", "--", "0.0"), ("x", ":", "0.35")]
MEGABYTE = 1e6


def memory(spec: dict[str, Any], frame: pd.DataFrame) -> "Figure":
    """Peak memory in MB, a line per method: left against synthetic steps at one IPC, right against IPC."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(9, 3.8), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    dataset = DATASET_TITLES.get(spec["dataset"], spec["dataset"])
    _curves(left, frame[frame.axis == "steps"], "steps", spec["titles"])
    _curves(right, frame[frame.axis == "ipc"], "ipc", spec["titles"])
    steps = frame.loc[frame.axis == "ipc", "steps"].iloc[0]
    left.set(xlabel="synthetic steps", ylabel="peak memory of a step, MB", title=f"{dataset}, IPC {spec['at']}", yscale="log")
    left.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter=StrMethodFormatter("{x:g}"), minor_formatter=NullFormatter())
    right.set(xlabel="images per class", title=f"{dataset}, {steps} synthetic step{'s' if steps > 1 else ''}")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _curves(axes: "Axes", frame: pd.DataFrame, x: str, titles: dict[str, str]) -> None:
    for (method, part), (marker, dash, colour) in zip(frame.groupby("method", sort=False), STYLES * 3, strict=False):
        part = part.dropna(subset="bytes").sort_values(x)
        axes.plot(part[x], part.bytes / MEGABYTE, marker=marker, ls=dash, color=colour, mfc="white", label=_title(str(method), titles))
    axes.set_xticks(sorted(frame[x].unique()))
    axes.grid(axis="y", color="0.9")


def _title(method: str, titles: dict[str, str]) -> str:
    name = method.removesuffix(PLAIN)
    return titles.get(name, name) + (", plain double backward" if method.endswith(PLAIN) else "")


def read_memory(path: Path) -> pd.DataFrame:
    """The rows of stage `footprint`. Raises UserError for another file."""
    frame = reading.table(path, ["axis", "method"], ["ipc", "steps", "bytes"])
    if frame[["ipc", "steps"]].isna().any(axis=None) or set(frame.axis) != {"steps", "ipc"}:
        raise UserError(f"{path}: lacks an axis, steps or ipc, or a place on it; delete it and run again")
    return frame


def sweep(spec: dict[str, Any], rows: Iterable[Path]) -> pd.DataFrame:
    """A row for each IPC and batch: synthetic_batch (images of a step; the complete set if the recipe takes all), mean, std and n (seeds).

    Raises UserError if a file is damaged, if the runs were not made alike, or if none is a point of the figure.
    """
    points = pd.DataFrame(spec["rows"]).assign(dataset=spec["dataset"], network=spec["network"])
    runs = points.merge(reading.read(rows), on=reading.KEY)
    if runs.empty:
        raise UserError("--rows: none of the files holds rows of this figure; give those of its methods")
    reading.refuse_mixtures(runs)
    batch = runs.synthetic_batch.astype("float64").fillna(runs.images).clip(upper=runs.images).astype("int64")
    runs = runs.assign(synthetic_batch=batch, complete=batch == runs.images)
    groups = runs.groupby(["dataset", "ipc", "synthetic_batch", "complete", "method"], sort=False)
    frame = groups.accuracy.agg(mean="mean", std="std", n="size").reset_index().drop(columns="method")
    return frame.sort_values(["ipc", "synthetic_batch"], ignore_index=True)


def batches(spec: dict[str, Any], frame: pd.DataFrame) -> "Figure":
    """Accuracy, mean and standard deviation, against the images of a step, a line per IPC; filled markers are complete sets."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    for (ipc, part), (marker, dash, colour) in zip(frame.groupby("ipc"), STYLES * 3, strict=False):
        style: dict[str, Any] = {"marker": marker, "ls": dash, "color": colour, "mfc": "white", "capsize": 3}
        axes.errorbar(part.synthetic_batch, part["mean"], part["std"], label=f"IPC {ipc}", **style)
        whole = part[part.complete]
        axes.plot(whole.synthetic_batch, whole["mean"], marker, color=colour, zorder=3)
    ticks = sorted(frame.synthetic_batch.unique())
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    dataset, network = DATASET_TITLES.get(spec["dataset"], spec["dataset"]), NETWORK_TITLES.get(spec["network"], spec["network"])
    n = f"{frame.n.min()}" if frame.n.nunique() == 1 else f"{frame.n.min()} to {frame.n.max()}"
    axes.set(xlabel="synthetic images in a step (filled: the complete set)", ylabel="accuracy, %")
    axes.set_title(f"{dataset}, {network}, n = {n} seeds")
    axes.grid(axis="y", color="0.9")
    axes.legend(frameon=False)
    return figure


def run(spec: dict[str, Any], rows: list[Path], out: Path) -> None:
    """Draw Figure 7 or 8, by `spec`, into `out`, a .png, and its .pdf; `rows` is the table of stage `footprint`, or those of runs."""
    if spec["figure"] == 7:
        save(memory(spec, read_memory(rows[0])), out)
        return
    frame = sweep(spec, rows)
    write(out.with_suffix(".csv"), frame.round(4).to_csv(index=False, lineterminator="\n"))
    save(batches(spec, frame), out)


@command
def main() -> None:
    parser = arguments.parser("plots", __doc__, "the figure, .png; .pdf is written beside it")
    parser.add_argument("--rows", type=Path, nargs="+", required=True, help="figure7.csv, or the per-seed rows of Figure 8's runs, .csv")
    run(**vars(parser.parse_args()))

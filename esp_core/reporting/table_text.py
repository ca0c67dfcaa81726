"""From the tidy table to text: the table of accuracies, the table of budgets, and the notes below them."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from esp_core.reporting.reading import FULL
from esp_core.study.layouts import DATASET_TITLES, METHOD_TITLES, NETWORK_TITLES, Layout

NOT_MEASURED = "not measured"
SCORES = "In the CSV, recovery is accuracy over that of full data, and gain is accuracy less that of random images of the same budget."
SATURATED = 0.25  # equals distillation.saturation.TOLD, whose import would load torch


def heading(frame: pd.DataFrame, layout: Layout) -> str:
    """The table's number or name, and its title."""
    *others, last = (NETWORK_TITLES.get(name, name) for name in frame.network.unique())
    networks = f"{', '.join(others)} and {last}" if others else last
    return f"Table {layout.name or layout.number}. {layout.own_title or f'{layout.title} {networks}'}"


def accuracy_sheet(frame: pd.DataFrame, layout: Layout, titles: dict[str, str], brief: bool = False) -> pd.DataFrame:
    """`layout` filled from the tidy table. Full data is repeated in every column of its dataset and network.

    `brief`, for narrow pages: the paper's number, in parentheses, only if ours is missing, and nothing in bold.
    """
    columns = list(layout.columns)
    if frame.network.nunique() > 1 and "network" not in columns:
        columns.append("network")
    cells = frame.assign(text=[_cell_text(one, brief) for one in frame.to_dict("records")])
    if (frame.ipc > 0).any():
        cells = _repeated(cells, columns)
    return sheet(cells, list(layout.rows), columns, titles)


def _repeated(cells: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """`cells`, with the full-data cells (IPC 0) copied to each combination of `columns` that they belong to."""
    own, whole = cells[cells.ipc > 0], cells[cells.method == FULL].drop(columns="ipc").reset_index()
    same = [name for name in columns if name != "ipc"]
    places = own[columns].drop_duplicates()
    whole = whole.merge(places, on=same) if same else whole.merge(places, how="cross")
    return pd.concat([own, whole.set_index("index")]).sort_index(kind="stable")


def budget_sheet(frame: pd.DataFrame, titles: dict[str, str]) -> pd.DataFrame | None:
    """Stored float32 numbers of every measured method and their share of the cell's budget; None if nothing was measured."""
    rows = frame[(frame.ipc > 0) & frame.budget.notna()].drop_duplicates(["method", "dataset", "ipc"])
    if rows.empty:
        return None
    budgets = rows.drop_duplicates(["dataset", "ipc"]).assign(method="budget")
    budgets = budgets.assign(text=budgets.budget.map("{:,}".format))
    used = [f"{used:,} ({used / budget:.1%})" for used, budget in zip(rows.budget_used, rows.budget, strict=True)]
    return sheet(pd.concat([budgets, rows.assign(text=used)]), ["method"], ["dataset", "ipc"], {**titles, "budget": "Budget"})


def sheet(cells: pd.DataFrame, rows: list[str], columns: list[str], titles: dict[str, str]) -> pd.DataFrame:
    """Column "text" of `cells` as a table with headings `rows` and `columns`, in order of appearance; `titles` are those of methods."""
    ordered = {name: pd.Categorical(cells[name], cells[name].unique(), ordered=True) for name in (*rows, *columns)}
    made = cells.assign(**ordered).pivot(index=rows, columns=columns, values="text").astype(object).fillna("")
    return made.set_axis(_headings(made.index, titles, str.capitalize), axis=0).set_axis(_headings(made.columns, titles, str), axis=1)


def _headings(keys: pd.Index, titles: dict[str, str], form: Callable[[str], str]) -> pd.MultiIndex:
    known = {"method": {**METHOD_TITLES, **titles}, "dataset": DATASET_TITLES, "network": NETWORK_TITLES, "ipc": {}}
    frame = keys.to_frame()
    shown = {
        form(str(name)): [known[str(name)].get(key, f"IPC {key}" if name == "ipc" else str(key)) for key in frame[name]] for name in frame
    }
    return pd.MultiIndex.from_frame(pd.DataFrame(shown))


def notes(frame: pd.DataFrame, rows: pd.DataFrame, layout: Layout) -> list[str]:
    """Sentences that say how the table's numbers were obtained; `rows` are its per-seed rows."""
    printed = frame.published_mean.notna()
    remarks = [layout.remark] if layout.remark and printed.any() else []
    if rows.empty:
        return ["Nothing in this table was measured; in parentheses are the paper's numbers.", *remarks]
    asides = "In parentheses are the paper's number and, where we measured, ours minus the paper's."
    quoted = "; where a row is not measured its quoted number takes part" if (printed & (frame.n == 0)).any() else ""
    said = [
        f"An entry is ours, mean ± sample standard deviation (n − 1; the paper does not say which it prints) over n = "
        f"{counted(frame.n[frame.n > 0])} trainings of the network with different seeds on one and the same training set.",
        asides if printed.any() else "The paper has no numbers for these cells.",
        f"Bold is the best of a column, full data aside{quoted}.",
    ]
    if frame[["recovery", "gain"]].notna().any(axis=None):
        said.append(SCORES)
    return [*said, *_saturated(rows), alike(rows), made_by(rows), *remarks]


def alike(rows: pd.DataFrame) -> str:
    """The protocols and networks of the per-seed rows."""
    return f"Protocol: {_protocols(rows)}. Networks: {_networks(rows)}."


def made_by(rows: pd.DataFrame) -> str:
    """The torch versions and the devices of the per-seed rows."""
    return f"torch {', '.join(rows.torch.unique())}; device {', '.join(rows.device.unique())}."


def signed(value: float) -> str:
    """`value` as text with its sign and one decimal."""
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")


def spread(mean: float, std: float | None, digits: int = 1) -> str:
    """Mean and standard deviation as text, only the mean for a single run, and "" if there is no mean."""
    return "" if pd.isna(mean) else f"{mean:.{digits}f}" if pd.isna(std) else f"{mean:.{digits}f} ± {std:.{digits}f}"


def estimate(value: float, low: float, high: float) -> str:
    """`value` as text, with its interval if there is one."""
    return signed(value) if low == high or pd.isna(low) else f"{signed(value)} [{signed(low)}, {signed(high)}]"


def _cell_text(one: dict[Any, Any], brief: bool) -> str:
    """Our number and, in parentheses, the paper's. The best is bold: ours, or the paper's if ours is missing."""
    ours, printed = spread(one["mean"], one["std"]), spread(one["published_mean"], one["published_std"])
    mark = "**{}**".format if one["bold"] else str
    if brief and (ours or printed):
        return ours or f"({printed})"
    if ours:
        return mark(ours) + (f" ({printed}, {signed(one['difference'])})" if printed else "")
    return f"{NOT_MEASURED} ({mark(printed)})" if printed else NOT_MEASURED


def counted(values: "pd.Series[int]") -> str:
    """The number of seeds of a table's entries, or its range."""
    return f"{values.min()}" if values.nunique() == 1 else f"{values.min()} to {values.max()} (column n of the CSV says which)"


def _saturated(rows: pd.DataFrame) -> list[str]:
    """A sentence that lists the sets with many saturated pixels; `python -m esp_core distill` logs the same warning."""
    shares = pd.to_numeric(rows.get("saturated", pd.Series(0.0, rows.index)), errors="coerce")
    worst = rows.assign(share=shares)[shares > SATURATED].drop_duplicates(["dataset", "ipc", "method"])
    sets = [f"{row.method} for {row.dataset}, IPC {row.ipc} ({row.share:.0%})" for row in worst.itertuples()]
    return [f"Saturated, with this share of the pixels at an end of their range by too high a rate: {'; '.join(sets)}."] * bool(sets)


def _protocols(rows: pd.DataFrame) -> str:
    where = rows.dataset + rows.method.eq(FULL).map({True: " (full data)", False: ""})
    return "; ".join(f"{name} for {', '.join(part.unique())}" for name, part in where.groupby(rows.protocol, sort=False))


def _networks(rows: pd.DataFrame) -> str:
    counts = rows.groupby("network", sort=False).parameters.unique()
    sizes = {str(name): " or ".join(f"{n:,}" for n in sorted(some)) for name, some in counts.items()}
    return "; ".join(f"{NETWORK_TITLES.get(name, name)} of {size} parameters" for name, size in sizes.items())

"""From the tidy table to what is read: the sheet of accuracies, the sheet of budgets, and the sentences below them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd

from esp_core.reporting.rows import FULL
from esp_core.reporting.summary import paired_name
from esp_core.study.layouts import DATASET_TITLES, METHOD_TITLES, NETWORK_TITLES, Layout

Title = Callable[[str, Any], str]  # ("method", "esp") -> "ESP (ours)"
NOT_MEASURED = "not measured"
SATURATED = 0.25  # as distillation.saturation.TOLD, which would load torch


def heading(frame: pd.DataFrame, layout: Layout) -> str:
    """The table's number and title."""
    *others, last = (NETWORK_TITLES.get(name, name) for name in frame.network.unique())
    networks = f"{', '.join(others)} and {last}" if others else last
    return f"Table {layout.number}. {layout.title} {networks}"


def accuracy_sheet(frame: pd.DataFrame, layout: Layout, titles: dict[str, str], brief: bool = False) -> pd.DataFrame:
    """`layout` filled from the tidy table; full data repeats in every column of its dataset and network.

    `brief` is for a narrow page: the paper's number, in parentheses, only where ours is missing, and nothing bold.
    """
    if frame.network.nunique() > 1 and "network" not in layout.columns:
        layout = replace(layout, columns=(*layout.columns, "network"))
    paired = paired_name(layout)
    texts = [(_paired_entry if one["method"] == paired else _brief if brief else _entry)(one) for one in frame.to_dict("records")]
    cells = frame.assign(text=texts)
    if (frame.ipc > 0).any():
        cells = _repeated(cells, list(layout.columns))
    return _sheet(cells, layout, _titles(layout, titles))


def _repeated(cells: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """`cells`, with those of full data, at IPC 0, once in each of `columns` that they belong in."""
    own, whole = cells[cells.ipc > 0], cells[cells.method == FULL].drop(columns="ipc").reset_index()
    same = [name for name in columns if name != "ipc"]
    places = own[columns].drop_duplicates()
    whole = whole.merge(places, on=same) if same else whole.merge(places, how="cross")
    return pd.concat([own, whole.set_index("index")]).sort_index(kind="stable")


def budget_sheet(frame: pd.DataFrame, layout: Layout, titles: dict[str, str]) -> pd.DataFrame | None:
    """Stored float32 numbers of every measured method, and their share of the cell's budget; None where nothing was measured."""
    rows = frame[(frame.ipc > 0) & frame.budget.notna()].drop_duplicates(["method", "dataset", "ipc"])
    if rows.empty:
        return None
    budgets = rows.drop_duplicates(["dataset", "ipc"]).assign(method="budget")
    budgets = budgets.assign(text=budgets.budget.map("{:,}".format))
    used = [f"{used:,} ({used / budget:.1%})" for used, budget in zip(rows.budget_used, rows.budget, strict=True)]
    flat = replace(layout, rows=("method",), columns=("dataset", "ipc"))
    return _sheet(pd.concat([budgets, rows.assign(text=used)]), flat, _titles(layout, {**titles, "budget": "Budget"}))


def notes(frame: pd.DataFrame, rows: pd.DataFrame, layout: Layout) -> list[str]:
    """Sentences that say how the table's numbers came about; `rows` are the per-seed rows in it."""
    printed = frame.published_mean.notna()
    remarks = [layout.remark] if layout.remark and printed.any() else []
    if rows.empty:
        return ["Nothing in this table was measured; in parentheses are the paper's numbers.", *remarks]
    asides = "In parentheses are the paper's number and, where we measured, ours minus the paper's."
    quoted = "; where a row is not measured its quoted number takes part" if (printed & (frame.n == 0)).any() else ""
    said = [
        f"An entry is ours, mean ± sample standard deviation (n − 1; the paper does not say which it prints) over n = "
        f"{_range(frame.n[frame.n > 0])} trainings of the network with different seeds on one and the same training set.",
        asides if printed.any() else "The paper has no numbers for these cells.",
        f"Bold is the best of a column, full data aside{quoted}.",
    ]
    if (frame.method == paired_name(layout)).any():
        said.append(
            "The last row is the mean of the differences between two methods, seed by seed, with its 95 % t-interval; that covers the "
            "seeds of these trainings, not another distillation."
        )
    said += _saturated(rows)
    said.append(f"Protocol: {_protocols(rows)}. Networks: {_networks(rows)}.")
    return [*said, made_by(rows), *remarks]


def made_by(rows: pd.DataFrame) -> str:
    """The versions of torch and the devices of per-seed rows."""
    return f"torch {', '.join(rows.torch.unique())}; device {', '.join(rows.device.unique())}."


def signed(value: float) -> str:
    """`value` with its sign and one digit, as text."""
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")


def estimate(value: float, low: float, high: float) -> str:
    """`value` with its interval, where there is one."""
    return signed(value) if low == high or pd.isna(low) else f"{signed(value)} [{signed(low)}, {signed(high)}]"


def _sheet(cells: pd.DataFrame, layout: Layout, title: Title) -> pd.DataFrame:
    """Column "text" of `cells` under the headings of `layout`, all in order of appearance."""
    rows, columns = list(layout.rows), list(layout.columns)
    ordered = {name: pd.Categorical(cells[name], cells[name].unique(), ordered=True) for name in (*rows, *columns)}
    sheet = cells.assign(**ordered).pivot(index=rows, columns=columns, values="text").astype(object).fillna("")
    return sheet.set_axis(_headings(sheet.index, title, str.capitalize), axis=0).set_axis(_headings(sheet.columns, title, str), axis=1)


def _headings(keys: pd.Index, title: Title, form: Callable[[str], str]) -> pd.MultiIndex:
    frame = keys.to_frame()
    return pd.MultiIndex.from_frame(pd.DataFrame({form(str(name)): [title(str(name), key) for key in frame[name]] for name in frame}))


def _titles(layout: Layout, titles: dict[str, str]) -> Title:
    methods = {**METHOD_TITLES, **titles}
    if layout.paired:
        methods[str(paired_name(layout))] = f"{' − '.join(methods[method] for method in layout.paired)}, paired"
    known = {"method": methods, "dataset": DATASET_TITLES, "network": NETWORK_TITLES}
    return lambda name, key: f"IPC {key}" if name == "ipc" else known[name].get(key, str(key))


def _entry(record: dict[Any, Any]) -> str:
    """Ours and in parentheses the paper's; ours is bold, or the paper's where ours is missing."""
    ours, published = _brief({**record, "published_mean": float("nan")}), _number(record, "published_")
    if not record["n"]:
        published = f"**{published}**" if record["bold"] and published else published
    else:
        ours = f"**{ours}**" if record["bold"] else ours
        published = f"{published}, {signed(record['difference'])}" if published else ""
    return f"{ours} ({published})" if published else ours


def _brief(record: dict[Any, Any]) -> str:
    published = _number(record, "published_")
    return _number(record) or (f"({published})" if published else NOT_MEASURED)


def _paired_entry(record: dict[Any, Any]) -> str:
    value = estimate(record["mean"], record["low"], record["high"])
    return value if pd.isna(record["published_mean"]) else f"{value} ({signed(record['published_mean'])})"


def _number(record: dict[Any, Any], prefix: str = "") -> str:
    """Mean and deviation; nothing where there is no mean."""
    mean, std = record[f"{prefix}mean"], record[f"{prefix}std"]
    return "" if pd.isna(mean) else f"{mean:.1f}" if pd.isna(std) else f"{mean:.1f} ± {std:.1f}"


def _range(values: "pd.Series[int]") -> str:
    return f"{values.min()}" if values.nunique() == 1 else f"{values.min()} to {values.max()} (column n of the CSV says which)"


def _saturated(rows: pd.DataFrame) -> list[str]:
    """The sets whose pixels have left what images can hold, as `python -m esp_core distill` says in its log."""
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

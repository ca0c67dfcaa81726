"""From the tidy table to what is read: the sheet of accuracies, the sheet of budgets, and the sentences below them."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pandas as pd

from esp_core.reporting.layouts import DATASET_TITLES, METHOD_TITLES, NETWORK_TITLES, Layout
from esp_core.reporting.runs import FULL
from esp_core.reporting.sheet import NOT_MEASURED, Entry, Sheet
from esp_core.reporting.summary import paired_name

Values = tuple[Any, ...]
Title = Callable[[str, Any], str]  # ("method", "esp") -> "ESP (ours)"
_BUDGET = "budget"
SATURATED = 0.25  # as in saturation.py
IDC_NETWORKS = {  # of its models/resnet.py and densenet_cifar.py
    "resnet10": "a ResNet-10 of widths 32 to 256, 1,228,970 parameters, for 64 to 512 and 4,903,242",
    "densenet121": "a DenseNet of growth 12, 1,000,618 parameters, for 32 and 6,956,298",
}


def heading(frame: pd.DataFrame, layout: Layout) -> str:
    """The table's number and title."""
    *others, last = (NETWORK_TITLES.get(name, name) for name in dict.fromkeys(frame.network))
    networks = f"{', '.join(others)} and {last}" if others else last
    return f"Table {layout.number}. {layout.title} {networks}"


def accuracy_sheet(frame: pd.DataFrame, layout: Layout, titles: dict[str, str]) -> Sheet:
    """`layout` filled from the tidy table; full data repeats in every column of its dataset and network."""
    if frame.network.nunique() > 1 and "network" not in layout.columns:
        layout = replace(layout, columns=(*layout.columns, "network"))
    records = {(r["method"], r["dataset"], r["ipc"], r["network"]): r for r in frame.to_dict("records")}
    paired, network = paired_name(layout), frame.network.iloc[0]

    def entry(row: Values, column: Values) -> Entry:
        place = {"network": network, **dict(zip((*layout.rows, *layout.columns), (*row, *column), strict=True))}
        ipc = 0 if place["method"] == FULL else place["ipc"]
        record = records.get((place["method"], place["dataset"], ipc, place["network"]))
        if record is None:
            return Entry("")
        return _paired_entry(record) if record["method"] == paired else _entry(record)

    return _sheet(_keys(frame, layout.rows), _keys(frame[frame.ipc > 0], layout.columns), entry, layout, _titles(layout, titles))


def budget_sheet(frame: pd.DataFrame, layout: Layout, titles: dict[str, str]) -> Sheet | None:
    """Stored float32 numbers of every measured method, and their share of the cell's budget; None where nothing was measured."""
    rows = frame[(frame.ipc > 0) & frame.budget.notna()]
    if rows.empty:
        return None
    records = rows.to_dict("records")
    budgets = {(r["dataset"], r["ipc"]): r["budget"] for r in records}
    used = {(r["method"], r["dataset"], r["ipc"]): r["budget_used"] for r in records}

    def entry(row: Values, column: Values) -> Entry:
        if row == (_BUDGET,):
            return Entry(f"{budgets[column]:,}")
        count = used.get((*row, *column))
        return Entry("" if count is None else f"{count:,} ({count / budgets[column]:.1%})")

    flat = replace(layout, rows=("method",), columns=("dataset", "ipc"))
    names = _titles(layout, {**titles, _BUDGET: "Budget"})
    return _sheet([(_BUDGET,), *_keys(rows, flat.rows)], _keys(rows, flat.columns), entry, flat, names)


def notes(frame: pd.DataFrame, runs: pd.DataFrame, layout: Layout) -> list[str]:
    """Sentences that say how the table's numbers came about."""
    remarks = [layout.remark] if layout.remark and frame.published_mean.notna().any() else []
    remarks += _smaller_networks(frame)
    if runs.empty:
        return ["Nothing in this table was measured; in parentheses are the paper's numbers.", *remarks]
    printed = frame.published_mean.notna()
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
    said += _saturated(runs)
    said.append(f"Protocol: {_protocols(runs)}. Networks: {_networks(runs)}.")
    said.append(f"torch {', '.join(runs.torch.unique())}; device {', '.join(runs.device.unique())}.")
    return [*said, *remarks]


def _sheet(rows: list[Values], columns: list[Values], entry: Callable[[Values, Values], Entry], layout: Layout, title: Title) -> Sheet:
    def headings(names: Iterable[str], key: Values) -> tuple[str, ...]:
        return tuple(title(name, part) for name, part in zip(names, key, strict=True))

    return Sheet(
        tuple(name.capitalize() for name in layout.rows),
        [headings(layout.columns, column) for column in columns],
        [(headings(layout.rows, row), [entry(row, column) for column in columns]) for row in rows],
    )


def _keys(frame: pd.DataFrame, names: tuple[str, ...]) -> list[Values]:
    """The distinct values of columns `names`, in order of appearance, dataset by dataset and IPC by IPC where these come first."""
    if names[0] != "method":
        ranks = list(dict.fromkeys(frame.dataset))
        frame = frame.sort_values(names[0], key=lambda s: s.map(ranks.index) if s.name == "dataset" else s, kind="stable")
    return list(dict.fromkeys(frame[list(names)].itertuples(index=False, name=None)))


def _titles(layout: Layout, titles: dict[str, str]) -> Title:
    methods = {**METHOD_TITLES, **titles}
    if layout.paired:
        methods["-".join(layout.paired)] = f"{' − '.join(methods[method] for method in layout.paired)}, paired"
    known = {"method": methods, "dataset": DATASET_TITLES, "network": NETWORK_TITLES}
    return lambda name, key: f"IPC {key}" if name == "ipc" else known[name].get(key, str(key))


def _entry(record: dict[Any, Any]) -> Entry:
    published = "" if pd.isna(record["published_mean"]) else _number(record["published_mean"], record["published_std"])
    if not record["n"]:
        return Entry(NOT_MEASURED, published, bool(record["bold"]))
    aside = f"{published}, {_signed(record['difference'])}" if published else ""
    return Entry(_number(record["mean"], record["std"]), aside, bool(record["bold"]))


def _paired_entry(record: dict[Any, Any]) -> Entry:
    value = _signed(record["mean"])
    if record["n"] > 1:
        value += f" [{_signed(record['low'])}, {_signed(record['high'])}]"
    return Entry(value, "" if pd.isna(record["published_mean"]) else _signed(record["published_mean"]))


def _number(mean: float, std: float) -> str:
    return f"{mean:.1f}" if pd.isna(std) else f"{mean:.1f} ± {std:.1f}"


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")


def _range(values: "pd.Series[int]") -> str:
    return f"{values.min()}" if values.nunique() == 1 else f"{values.min()} to {values.max()} (column n of the CSV says which)"


def _saturated(runs: pd.DataFrame) -> list[str]:
    """The sets whose pixels have left what images can hold, as `python -m esp_core.distill` says in its log."""
    shares = pd.to_numeric(runs.get("saturated", pd.Series(0.0, runs.index)), errors="coerce")
    worst = runs.assign(share=shares)[shares > SATURATED].drop_duplicates(["dataset", "ipc", "method"])
    sets = [f"{row.method} for {row.dataset}, IPC {row.ipc} ({row.share:.0%})" for row in worst.itertuples()]
    return [f"Saturated, with this share of the pixels at an end of their range by too high a rate: {'; '.join(sets)}."] * bool(sets)


def _smaller_networks(frame: pd.DataFrame) -> list[str]:
    """What IDC's code tests CIFAR on, where its numbers are quoted for other networks."""
    quoted = frame[frame.method.eq("idc") & frame.dataset.str.startswith("cifar") & frame.published_mean.notna()]
    found = [text for name, text in IDC_NETWORKS.items() if name in set(quoted.network)]
    return [f"IDC's code tests CIFAR on smaller networks than ours and the paper's: {'; '.join(found)}."] * bool(found)


def _protocols(runs: pd.DataFrame) -> str:
    where = runs.dataset + runs.method.eq(FULL).map({True: " (full data)", False: ""})
    return "; ".join(f"{name} for {', '.join(dict.fromkeys(part))}" for name, part in where.groupby(runs.protocol, sort=False))


def _networks(runs: pd.DataFrame) -> str:
    counts = runs.groupby("network", sort=False).parameters.unique()
    sizes = {str(name): " or ".join(f"{n:,}" for n in sorted(some)) for name, some in counts.items()}
    return "; ".join(f"{NETWORK_TITLES.get(name, name)} of {size} parameters" for name, size in sizes.items())

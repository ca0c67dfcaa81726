"""The tidy form of a table: a row for each (method, cell, network), with measured and published numbers."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from esp_core.reporting.reading import FULL, KEY
from esp_core.runtime.errors import UserError
from esp_core.study.layouts import METHOD_TITLES, Layout

MEASURED = ["n", "mean", "std", "low", "high"]
PUBLISHED = ["published_mean", "published_std"]
COLUMNS = ["table", *KEY, *MEASURED, *PUBLISHED, "difference", "recovery", "gain", "budget", "budget_used", "bold"]


def wanted(spec: dict[str, Any], printed: pd.DataFrame) -> pd.DataFrame:
    """The rows of the table, as columns KEY: the study's methods and those printed in the paper for its cells, in the paper's order.

    A user's own methods come after the paper's, and full data last, with IPC 0 and one row for each dataset and network. Raises UserError
    if there is no row.
    """

    def of(method: str) -> Iterator[tuple[str, str, int, str]]:
        for dataset, ipc in spec["cells"]:
            yield from ((method, dataset, 0 if method == FULL else ipc, network) for network in spec["networks"])

    known = set(printed[KEY].itertuples(index=False, name=None))
    quoted = [method for method in printed.method.unique() if known & set(of(method))]
    order = list(METHOD_TITLES)
    methods = sorted({*spec["methods"], *quoted} & set(order) - {FULL}, key=order.index)
    methods += [m for m in spec["methods"] if m not in order]
    methods += [FULL] if FULL in (*spec["methods"], *quoted) else []
    if keys := list(dict.fromkeys(key for method in methods for key in of(method))):
        return pd.DataFrame(keys, columns=KEY)
    raise UserError(f"tables.{spec.get('name', spec['table'])}: has no cell, method or network to show; name some, or leave the table out")


def summarise(layout: Layout, keys: pd.DataFrame, rows: pd.DataFrame, printed: pd.DataFrame) -> pd.DataFrame:
    """The tidy table: mean, sample standard deviation (n - 1) and 95 % t-interval over seeds, the paper's number, the difference.

    A row that was not measured has n = 0 and no mean. `budget` and `budget_used` count float32 numbers. `recovery` (accuracy over that
    of full data) and `gain` (accuracy minus that of random images of the same budget) follow DD-Ranking; empty without those rows.
    """
    budgets = rows.drop_duplicates(KEY)[[*KEY, "budget", "budget_used"]].astype({"budget": "Int64", "budget_used": "Int64"})
    frame = keys.merge(statistics(rows), how="left", on=KEY).merge(budgets, how="left", on=KEY)
    frame = frame.merge(printed[[*KEY, *PUBLISHED]], how="left", on=KEY).astype(dict.fromkeys([*MEASURED, *PUBLISHED], "float64"))
    frame = frame.assign(table=layout.name or layout.number, n=frame.n.fillna(0).astype("int64"), bold=_best(frame))
    frame["difference"] = frame["mean"] - frame.published_mean
    frame["recovery"] = frame["mean"] / _of(FULL, frame, ["dataset", "network"])
    frame["gain"] = frame["mean"] - _of("random", frame, KEY[1:])
    return frame[COLUMNS]


def statistics(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per run: columns KEY and MEASURED."""
    from scipy.special import stdtrit

    groups = rows.astype({"accuracy": "float64"}).groupby(KEY, sort=False).accuracy
    frame = groups.agg(n="size", mean="mean", std="std").reset_index()
    half = stdtrit(frame.n - 1, 0.975) * frame["std"] / frame.n**0.5
    return frame.assign(low=frame["mean"] - half, high=frame["mean"] + half)


def _of(method: str, frame: pd.DataFrame, same: list[str]) -> "pd.Series[float]":
    """For each row of `frame`, the mean of `method` in the row with equal `same` columns; missing if there is none."""
    return frame[same].merge(frame.loc[frame.method == method, [*same, "mean"]], how="left", on=same)["mean"]


def paired(one: str, other: str, frame: pd.DataFrame, value: str, same: list[str]) -> pd.DataFrame:
    """The difference of two methods in `value`, where `frame` has both with equal `same` columns; the pair's name is the "method"."""
    left, right = (frame.loc[frame.method == method, [*same, value]] for method in (one, other))
    both = left.merge(right, on=same, suffixes=("", "_other"))
    return both[same].assign(method=f"{one}-{other}", **{value: both[value] - both[f"{value}_other"]})


def _best(frame: pd.DataFrame) -> "pd.Series[bool]":
    """True for the best of each column, rounded to the printed decimal, without full data.

    For a row that was not measured the paper's number is used, as in the paper for quoted numbers.
    """
    shown = frame["mean"].fillna(frame.published_mean).round(1).where(frame.method != FULL)
    return shown.eq(shown.groupby([frame.dataset, frame.ipc, frame.network]).transform("max"))

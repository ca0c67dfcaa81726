"""The tidy form of a table: a row a (method, cell, network), measured beside published."""

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
    """Columns KEY of the table's rows: the study's methods and those that the paper prints for its cells, in the paper's order.

    A user's own methods come after the paper's, full data last, with one row a dataset and network and IPC 0. Raises UserError
    where there is no row.
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

    n is 0 and the mean empty where a row is not measured. `budget` and `budget_used` count stored float32 numbers. `recovery` and `gain`
    are DD-Ranking's questions: accuracy over full data's, and less that of random images of the same budget; empty without those rows.
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
    """A row a run: columns KEY and MEASURED."""
    from scipy.special import stdtrit

    groups = rows.astype({"accuracy": "float64"}).groupby(KEY, sort=False).accuracy
    frame = groups.agg(n="size", mean="mean", std="std").reset_index()
    half = stdtrit(frame.n - 1, 0.975) * frame["std"] / frame.n**0.5
    return frame.assign(low=frame["mean"] - half, high=frame["mean"] + half)


def _of(method: str, frame: pd.DataFrame, same: list[str]) -> "pd.Series[float]":
    """Beside each row of `frame`, the mean of `method` where the columns `same` agree; missing where there is none."""
    return frame[same].merge(frame.loc[frame.method == method, [*same, "mean"]], how="left", on=same)["mean"]


def paired(one: str, other: str, frame: pd.DataFrame, value: str, same: list[str]) -> pd.DataFrame:
    """Where `frame` has both methods, alike in the columns `same`: these, the pair's name as "method", and the difference in `value`."""
    left, right = (frame.loc[frame.method == method, [*same, value]] for method in (one, other))
    both = left.merge(right, on=same, suffixes=("", "_other"))
    return both[same].assign(method=f"{one}-{other}", **{value: both[value] - both[f"{value}_other"]})


def _best(frame: pd.DataFrame) -> "pd.Series[bool]":
    """True for the best of each column, at the one decimal that is printed; full data takes no part.

    Where a row is not measured the paper's number stands for it, as quoted numbers do in the paper.
    """
    shown = frame["mean"].fillna(frame.published_mean).round(1).where(frame.method != FULL)
    return shown.eq(shown.groupby([frame.dataset, frame.ipc, frame.network]).transform("max"))

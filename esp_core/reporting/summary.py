"""The tidy form of a table: a row a (method, cell, network), measured beside published."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from esp_core.reporting.rows import FULL, KEY
from esp_core.runtime.errors import UserError
from esp_core.study.layouts import METHOD_TITLES, Layout

MEASURED = ["n", "mean", "std", "low", "high"]
PUBLISHED = ["published_mean", "published_std"]
COLUMNS = ["table", *KEY, *MEASURED, *PUBLISHED, "difference", "budget", "budget_used", "bold"]


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
    raise UserError(f"tables.{spec['table']}: has no cell, method or network to show; name some, or leave the table out")


def summarise(layout: Layout, keys: pd.DataFrame, rows: pd.DataFrame, printed: pd.DataFrame) -> pd.DataFrame:
    """The tidy table: mean, sample standard deviation (n - 1) and 95 % t-interval over seeds, the paper's number, the difference.

    n is 0 and the mean empty where a row is not measured. `budget` and `budget_used` count stored float32 numbers.
    """
    if layout.paired:
        pairs = _paired(layout.paired, rows, "accuracy", ["seed"])
        keys = pd.concat([keys, pairs[KEY].drop_duplicates()])
        rows = pd.concat([rows, pairs])
        printed = pd.concat([printed, _paired(layout.paired, printed, "published_mean", [])])
    frame = keys.merge(statistics(rows), how="left", on=KEY).merge(printed[[*KEY, *PUBLISHED]], how="left", on=KEY)
    numbers = dict.fromkeys((*MEASURED, *PUBLISHED), "float64") | dict.fromkeys(("budget", "budget_used"), "Int64")
    frame = frame.assign(table=layout.number, n=frame.n.fillna(0), difference=frame["mean"] - frame.published_mean)
    return frame.astype(numbers).astype({"n": "int64"}).assign(bold=_best(frame, layout))[COLUMNS]


def statistics(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a run: columns KEY, MEASURED, `budget` and `budget_used`."""
    from scipy.special import stdtrit

    groups = rows.astype({"accuracy": "float64"}).groupby(KEY, sort=False)
    frame = groups.agg(
        n=("accuracy", "size"),
        mean=("accuracy", "mean"),
        std=("accuracy", "std"),
        budget=("budget", "first"),
        budget_used=("budget_used", "first"),
    ).reset_index()
    half = stdtrit(frame.n - 1, 0.975) * frame["std"] / frame.n**0.5
    return frame.assign(low=frame["mean"] - half, high=frame["mean"] + half)


def paired_name(layout: Layout) -> str | None:
    """What the row of paired differences is called in column "method", such as "esp-esp_dm"."""
    return "-".join(layout.paired) if layout.paired else None


def _paired(methods: tuple[str, str], frame: pd.DataFrame, value: str, more: list[str]) -> pd.DataFrame:
    """Where `frame` has both `methods`, alike in cell, network and the columns `more`: columns of these, and the difference in `value`."""
    same = [*KEY[1:], *more]
    one, other = (frame.loc[frame.method == method, [*same, value]] for method in methods)
    both = one.merge(other, on=same, suffixes=("", "_other"))
    return both.assign(method="-".join(methods), **{value: both[value] - both[f"{value}_other"]}).drop(columns=f"{value}_other")


def _best(frame: pd.DataFrame, layout: Layout) -> "pd.Series[bool]":
    """True for the best of each column, at the one decimal that is printed; full data and differences take no part.

    Where a row is not measured the paper's number stands for it, as quoted numbers do in the paper.
    """
    shown = frame["mean"].fillna(frame.published_mean).round(1)
    shown = shown.where(~frame.method.isin([FULL, paired_name(layout)]))
    return shown.eq(shown.groupby([frame.dataset, frame.ipc, frame.network]).transform("max"))

"""The tidy form of a table: a row a (method, cell, network), measured beside published."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from esp_core.reporting import runs as run_files
from esp_core.reporting.runs import FULL
from esp_core.runtime.errors import UserError
from esp_core.study.layouts import METHOD_TITLES, Layout

KEY = ("method", "dataset", "ipc", "network")
MEASURED = ("n", "mean", "std", "low", "high")
PUBLISHED = ("published_mean", "published_std")
COLUMNS = ("table", *KEY, *MEASURED, *PUBLISHED, "difference", "budget", "budget_used", "bold")
PUBLISHED_COLUMNS = ("table", "method", "dataset", "ipc", "architecture", "mean", "std")

Key = tuple[str, str, int, str]  # the values of KEY; IPC is 0 for full data
Printed = dict[Key, tuple[float, float]]  # the paper's mean and deviation


def read_published(path: Path, table: int) -> Printed:
    """The paper's numbers of one table; its full-data number, the same at every IPC, under IPC 0. Raises UserError."""
    try:
        rows = pd.read_csv(path)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"{path}: the paper's numbers cannot be read ({error}); restore the file") from None
    if tuple(rows.columns) != PUBLISHED_COLUMNS:
        raise UserError(f"{path}: must have the columns {', '.join(PUBLISHED_COLUMNS)}; restore the file")
    rows = rows[rows.table == table]
    keys = zip(rows.method, rows.dataset, rows.ipc.where(rows.method != FULL, 0), rows.architecture, strict=True)
    return dict(zip(keys, zip(rows["mean"], rows["std"], strict=True), strict=True))


def keys(spec: dict[str, Any], printed: Printed) -> list[Key]:
    """The rows of the table: the study's methods and those that the paper prints for its cells, in the paper's order.

    A user's own methods come after the paper's, full data last, with one row a dataset and network and IPC 0. Raises UserError
    where there is no row.
    """

    def of(method: str) -> Iterator[Key]:
        for dataset, ipc in spec["cells"]:
            yield from ((method, dataset, 0 if method == FULL else ipc, network) for network in spec["networks"])

    quoted = [method for method in dict.fromkeys(key[0] for key in printed) if printed.keys() & set(of(method))]
    order = list(METHOD_TITLES)
    methods = sorted({*spec["methods"], *quoted} & set(order) - {FULL}, key=order.index)
    methods += [m for m in spec["methods"] if m not in order]
    methods += [FULL] if FULL in (*spec["methods"], *quoted) else []
    if rows := list(dict.fromkeys(key for method in methods for key in of(method))):
        return rows
    raise UserError(f"tables.{spec['table']}: has no cell, method or network to show; name some, or leave the table out")


def read_runs(spec: dict[str, Any], results: Path, wanted: Iterable[Key]) -> pd.DataFrame:
    """The per-seed rows behind the table: those of the measured rows whose files are there. Raises UserError on a mixture."""
    found = []
    for method, dataset, ipc, network in wanted:
        path = run_files.path_of(results, dataset, ipc, method, network)
        if method in spec["measured"] and path.is_file():
            found.append(run_files.read(path, dataset, ipc, method, network))
    if not found:
        return pd.DataFrame(columns=[*run_files.NUMBERS, *run_files.WORDS, "file"])
    rows = pd.concat(found, ignore_index=True)
    run_files.refuse_mixtures(rows)
    return rows


def summarise(layout: Layout, wanted: Iterable[Key], runs: pd.DataFrame, printed: Printed) -> pd.DataFrame:
    """The tidy table: mean, sample standard deviation (n - 1) and 95 % t-interval over seeds, the paper's number, the difference.

    n is 0 and the mean empty where a row is not measured. `budget` and `budget_used` count stored float32 numbers.
    """
    by_key: dict[Any, pd.DataFrame] = dict(list(runs.groupby(list(KEY), sort=False)))
    rows = []
    for key in wanted:
        row: dict[str, Any] = dict(zip((*KEY, *PUBLISHED), (*key, *printed.get(key, (None, None))), strict=True))
        if key in by_key:
            row |= _statistics(by_key[key].accuracy)
            row |= {name: by_key[key][name].iloc[0] for name in ("budget", "budget_used")}
        rows.append(row)
    frame = pd.DataFrame([*rows, *_paired(layout, by_key, printed)]).reindex(columns=list(COLUMNS))
    numbers = dict.fromkeys((*MEASURED, *PUBLISHED), "float64") | dict.fromkeys(("budget", "budget_used"), "Int64")
    frame = frame.assign(table=layout.number, n=frame.n.fillna(0)).astype(numbers).astype({"n": "int64"})
    return frame.assign(difference=frame["mean"] - frame.published_mean, bold=_best(frame, layout))


def paired_name(layout: Layout) -> str | None:
    """What the row of paired differences is called in column "method", such as "esp-esp_dm"."""
    return "-".join(layout.paired) if layout.paired else None


def _statistics(values: "pd.Series[float]") -> dict[str, float]:
    from scipy.special import stdtrit

    n, mean, std = len(values), values.mean(), values.std()
    half = stdtrit(n - 1, 0.975) * std / n**0.5 if n > 1 else float("nan")
    return {"n": n, "mean": mean, "std": std, "low": mean - half, "high": mean + half}


def _paired(layout: Layout, runs: dict[Any, pd.DataFrame], printed: Printed) -> Iterator[dict[str, Any]]:
    """A row for each cell and network in which both methods of `layout.paired` were measured with a seed in common."""
    if layout.paired is None:
        return
    first, second = layout.paired
    for where in [key[1:] for key in runs if key[0] == first and (second, *key[1:]) in runs]:
        one, other = (runs[method, *where].set_index("seed").accuracy for method in (first, second))
        differences = (one - other).dropna()
        if differences.empty:
            continue
        row = dict(zip(KEY, (paired_name(layout), *where), strict=True)) | _statistics(differences)
        if (first, *where) in printed and (second, *where) in printed:
            row["published_mean"] = printed[first, *where][0] - printed[second, *where][0]
        yield row


def _best(frame: pd.DataFrame, layout: Layout) -> "pd.Series[bool]":
    """True for the best of each column, at the one decimal that is printed; full data and differences take no part.

    Where a row is not measured the paper's number stands for it, as quoted numbers do in the paper.
    """
    shown = frame["mean"].fillna(frame.published_mean).round(1)
    shown = shown.where(~frame.method.isin([FULL, paired_name(layout)]))
    return shown.eq(shown.groupby([frame.dataset, frame.ipc, frame.network]).transform("max"))

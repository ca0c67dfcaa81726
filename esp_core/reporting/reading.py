"""Reads the per-seed rows of a study, the paper's numbers and the data of figures; refuses tables of unlike rows."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from esp_core.runtime.errors import UserError

KEY = ["method", "dataset", "ipc", "network"]  # identifies a run; IPC is 0 for full data
WHOLE = ["ipc", "seed", "budget", "budget_used", "parameters", "images"]
WORDS = ["dataset", "method", "network", "protocol", "device", "torch"]
FULL = "full"  # the method that trains on the complete dataset


def table(path: Path, words: list[str], numbers: list[str], way_on: str = "delete it and run again") -> pd.DataFrame:
    """The CSV at `path`: columns `numbers` as numbers, where an empty entry is missing, all others as text.

    Raises UserError, which ends with `way_on`, if one of `words` or `numbers` is not a column, or a number is not in [0, 2^63).
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        if missing := [name for name in (*words, *numbers) if name not in frame]:
            raise ValueError(f"lacks {', '.join(missing)}")
        frame[numbers] = frame[numbers].apply(pd.to_numeric)
        if ((frame[numbers] < 0) | (frame[numbers] >= 2**63)).any(axis=None):
            raise ValueError("a number out of its range")
        return frame
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{path}: must have columns {', '.join([*words, *numbers])}, numbers in the last ({said}); {way_on}") from None


def read(paths: Iterable[Path]) -> pd.DataFrame:
    """The per-seed rows of the CSVs of `python -m esp_core evaluate`, with the file's name in column "file".

    Raises UserError if a file is not a table of one run or holds impossible numbers, or if two files hold the same run.
    """
    found = [_read(path) for path in paths]
    rows = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*WHOLE, "accuracy", *WORDS, "file"])
    for _, run in rows.groupby(KEY, sort=False):
        if len(files := run.file.unique()) > 1:
            raise UserError(f"{files[0]}: the same run as {files[1]}; give one of them")
    return rows


def _read(path: Path) -> pd.DataFrame:
    frame = table(path, WORDS, [*WHOLE, "accuracy"])
    wrong = {
        "holds no rows, or a value is missing": frame.empty or frame[[*WHOLE, "accuracy"]].isna().any(axis=None),
        "holds an accuracy above 100": frame.accuracy.max() > 100,
        "holds a seed twice": frame.seed.duplicated().any(),
        "holds the rows of more than one run": len(frame[KEY].drop_duplicates()) > 1,
    }
    for what, found in wrong.items():
        if found:
            raise UserError(f"{path}: {what}; delete it and run again")
    return frame.astype(dict.fromkeys(WHOLE, "int64")).assign(file=str(path))


def read_published(path: Path) -> pd.DataFrame:
    """The paper's numbers: columns table, those of KEY, published_mean and published_std. Raises UserError.

    The full-data number of a table, which the paper prints at every IPC, has IPC 0.
    """
    frame = table(path, ["method", "dataset", "architecture"], ["table", "ipc", "mean", "std"], "restore the file")
    frame = frame.rename(columns={"architecture": "network", "mean": "published_mean", "std": "published_std"})
    return frame.assign(ipc=frame.ipc.where(frame.method != FULL, 0)).drop_duplicates(["table", *KEY])


def refuse_mixtures(rows: pd.DataFrame) -> None:
    """Raise UserError, naming the files, if rows of one table were not made alike.

    All rows must come from one version of torch. For a dataset and network, all condensed sets must have been evaluated by one protocol.
    Full data may have another protocol; the table's notes then name it.
    """
    _refuse(rows, "torch", "torch")
    for (dataset, network), part in rows[rows.method != FULL].groupby(["dataset", "network"], sort=False):
        _refuse(part, "protocol", f"protocol for {dataset} on {network}")


def _refuse(rows: pd.DataFrame, column: str, what: str) -> None:
    files = {str(value): list(part.file.unique()) for value, part in rows.groupby(column, sort=False)}
    if len(files) > 1:
        groups = sorted(files.items(), key=lambda group: len(group[1]))
        named = " and ".join(f"{value} ({_few(paths)})" for value, paths in groups)
        raise UserError(f"rows of more than one {what} cannot stand in one table: {named}; delete the files of all but one and run again")


def _few(paths: list[str], most: int = 4) -> str:
    more = len(paths) - most
    return ", ".join(paths[:most]) + (f" and {more} more" if more > 0 else "")

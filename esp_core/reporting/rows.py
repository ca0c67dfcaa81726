"""What is read: the per-seed rows of a study, and the paper's numbers; and the refusal of unlike rows in one table."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from esp_core.runtime.errors import UserError

KEY = ["method", "dataset", "ipc", "network"]  # what tells runs apart; IPC is 0 for full data
NUMBERS = ["ipc", "seed", "accuracy", "budget", "budget_used", "parameters", "images"]
WORDS = ["dataset", "method", "network", "protocol", "device", "torch"]
PUBLISHED = ["table", "method", "dataset", "ipc", "architecture", "mean", "std"]
FULL = "full"  # the method that trains on the whole dataset


def read(paths: Iterable[Path]) -> pd.DataFrame:
    """The rows, one a seed, of the CSVs that `python -m esp_core evaluate` wrote, with a file's name in column "file".

    Raises UserError where a file is no table of one run or holds numbers that cannot be, or where two files hold the same run.
    """
    found = [_read(path) for path in paths]
    rows = pd.concat([pd.DataFrame(columns=[*NUMBERS, *WORDS, "file"]), *found], ignore_index=True) if not found else pd.concat(found)
    for _, run in rows.groupby(KEY, sort=False):
        if len(files := run.file.unique()) > 1:
            raise UserError(f"{files[0]}: the same run as {files[1]}; give one of them")
    return rows.reset_index(drop=True)


def _read(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a table of runs ({str(error).splitlines()[0]}); delete it and run again") from None
    if missing := [column for column in (*NUMBERS, *WORDS) if column not in frame.columns]:
        raise UserError(f"{path}: column {', '.join(missing)} is missing; delete it and run again")
    frame[NUMBERS] = frame[NUMBERS].apply(pd.to_numeric, errors="coerce")
    if frame.empty or not frame[NUMBERS].map(lambda x: 0 <= x < 2**63).all(axis=None) or frame.accuracy.max() > 100:
        raise UserError(f"{path}: holds no rows, or a value that is no number in its range; delete it and run again")
    if frame.seed.duplicated().any():
        raise UserError(f"{path}: holds a seed twice; delete it and run again")
    if len(frame[KEY].drop_duplicates()) > 1:
        raise UserError(f"{path}: holds the rows of more than one run; delete it and run again")
    return frame.astype({name: "int64" for name in NUMBERS if name != "accuracy"}).assign(file=str(path))


def read_published(path: Path) -> pd.DataFrame:
    """The paper's numbers: columns table, those of KEY, published_mean and published_std. Raises UserError.

    A table's full-data number, printed at every IPC, stands under IPC 0.
    """
    try:
        frame = pd.read_csv(path)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"{path}: the paper's numbers cannot be read ({error}); restore the file") from None
    if list(frame.columns) != PUBLISHED:
        raise UserError(f"{path}: must have the columns {', '.join(PUBLISHED)}; restore the file")
    frame.columns = pd.Index(["table", *KEY, "published_mean", "published_std"])
    return frame.assign(ipc=frame.ipc.where(frame.method != FULL, 0)).drop_duplicates(["table", *KEY])


def read_figure(path: Path, words: list[str], numbers: list[str]) -> pd.DataFrame:
    """The points behind a figure, columns `words` and `numbers`; a number that was not measured is missing. Raises UserError."""
    try:
        frame = pd.read_csv(path)[[*words, *numbers]]
        frame[numbers] = frame[numbers].apply(pd.to_numeric)
        if ((frame[numbers] < 0) | (frame[numbers] >= 2**63)).any(axis=None):
            raise ValueError("a number out of its range")
        return frame
    except (OSError, ValueError, TypeError, KeyError) as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"{path}: must have columns {', '.join([*words, *numbers])}, numbers in the last ({said}); delete it and run again"
        ) from None


def refuse_mixtures(rows: pd.DataFrame) -> None:
    """Raise UserError, naming the files, where rows of one table were not made alike.

    All rows must come from one version of torch; the condensed sets of one dataset must have been evaluated on one network by one
    protocol. Full data may have a protocol of its own, which the table's notes then name.
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

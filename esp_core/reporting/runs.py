"""Reading the per-seed rows of a study, and refusing to let unlike rows stand in one table."""

from pathlib import Path

import pandas as pd

from esp_core.runtime.errors import UserError

NUMBERS = ("ipc", "seed", "accuracy", "budget", "budget_used", "parameters")
WORDS = ("dataset", "method", "network", "protocol", "device", "torch")
FULL = "full"  # the method that trains on the whole dataset; its rows have IPC 0


def path_of(results: Path, dataset: str, ipc: int, method: str, network: str) -> Path:
    """Where `python -m esp_core evaluate` leaves the rows of one (cell, method, network) of the study in `results`."""
    cell = Path(FULL) if method == FULL else Path(f"ipc-{ipc}") / method
    return results / "evaluated" / dataset / cell / f"{network}.csv"


def read(path: Path, dataset: str, ipc: int, method: str, network: str) -> pd.DataFrame:
    """One row a seed, with the file's name in column "file".

    Raises UserError where the file is no table of runs, holds another run's rows, or numbers that cannot be.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise UserError(f"{path}: not a table of runs ({str(error).splitlines()[0]}); delete it and run again") from None
    if missing := [c for c in (*NUMBERS, *WORDS) if c not in frame.columns]:
        raise UserError(f"{path}: column {', '.join(missing)} is missing; delete it and run again")
    frame[list(NUMBERS)] = frame[list(NUMBERS)].apply(pd.to_numeric, errors="coerce")
    if frame.empty or not frame[list(NUMBERS)].map(lambda x: 0 <= x < 2**63).all(axis=None) or frame.accuracy.max() > 100:
        raise UserError(f"{path}: holds no rows, or a value that is no number in its range; delete it and run again")
    if frame.seed.duplicated().any():
        raise UserError(f"{path}: holds a seed twice; delete it and run again")
    frame = frame.astype({name: "int64" for name in NUMBERS if name != "accuracy"}).assign(file=str(path))
    others = frame[(frame.dataset != dataset) | (frame.ipc != ipc) | (frame.method != method) | (frame.network != network)]
    for row in others.itertuples():
        found = f"{row.dataset}, IPC {row.ipc}, {row.method}, {row.network}"
        raise UserError(f"{path}: holds the rows of another run ({found}); delete it and run again")
    return frame


def refuse_mixtures(runs: pd.DataFrame) -> None:
    """Raise UserError, naming the files, where rows of one table were not made alike.

    All rows must come from one version of torch; the condensed sets of one dataset must have been evaluated on one network by one
    protocol. Full data may have a protocol of its own, which the table's notes then name.
    """
    _refuse(runs, "torch", "torch")
    condensed = runs[runs.method != FULL]
    for (dataset, network), part in condensed.groupby(["dataset", "network"], sort=False):
        _refuse(part, "protocol", f"protocol for {dataset} on {network}")


def _refuse(runs: pd.DataFrame, column: str, what: str) -> None:
    files = {str(value): list(dict.fromkeys(part.file)) for value, part in runs.groupby(column, sort=False)}
    if len(files) > 1:
        groups = sorted(files.items(), key=lambda group: len(group[1]))
        named = " and ".join(f"{value} ({_few(paths)})" for value, paths in groups)
        raise UserError(f"rows of more than one {what} cannot stand in one table: {named}; delete the files of all but one and run again")


def _few(paths: list[str], most: int = 4) -> str:
    more = len(paths) - most
    return ", ".join(paths[:most]) + (f" and {more} more" if more > 0 else "")

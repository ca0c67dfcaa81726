"""Stage `tables`: one of the paper's tables for a study, measured beside published, as CSV, Markdown, LaTeX and HTML.

    python -m esp_core tables --spec JSON --rows ROWS.csv… --published esp_core/reporting/published.csv --out TABLE.csv
    python -m esp_core tables show results/STUDY

The CSV holds a row a (method, cell, network). Its `mean` and `std` are those of the run's own CSV,
`pandas.read_csv(run).accuracy.agg(["mean", "std"])`; `low` and `high` bound the mean's 95 % t-interval. Of the files of `--rows`, one a
run, those of runs that the table does not show are left out, and counted in the log.
"""

import argparse
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from esp_core.reporting import present, rendering, rows, summary
from esp_core.runtime.errors import UserError, command
from esp_core.runtime.files import write
from esp_core.study import jobspec
from esp_core.study.layouts import layout
from esp_core.study.provenance import canonical, digest

BUDGETS = "Stored float32 numbers of each condensed set, and the budget, IPC × classes × C × H × W."


def run(spec: dict[str, Any], row_files: Iterable[Path], published: Path, out: Path) -> None:
    """Write the table of `spec` to `out`, .csv, and its .md, .tex and .html beside it.

    Raises UserError where a run's file is damaged, or where runs that were not made alike would stand in one table.
    """
    which = layout(spec["table"])
    printed = rows.read_published(published).query("table == @which.number")
    given = rows.read(row_files)
    keys = summary.wanted(spec, printed)
    shown = keys.merge(given, on=rows.KEY)
    rows.refuse_mixtures(shown)
    frame = summary.summarise(which, keys, shown, printed)
    budgets = present.budget_sheet(frame, which, spec["titles"])
    notes = [*present.notes(frame, shown, which), f"Study {spec['study']}, spec {digest(canonical(spec))}."]
    parts: list[rendering.Part] = [present.accuracy_sheet(frame, which, spec["titles"]), *notes]
    if budgets is not None:
        parts += [BUDGETS, budgets]
    write(out, frame.round(4).to_csv(index=False, lineterminator="\n"))
    for suffix, form in ((".md", rendering.markdown), (".tex", rendering.latex), (".html", rendering.web)):
        write(out.with_suffix(suffix), form(present.heading(frame, which), parts))
    left = given.file.nunique() - shown.file.nunique()
    print(f"{out}: {len(keys)} rows, {shown.file.nunique()} of them measured; {left} files of other rows left out")


def show(results: Path, width: int) -> str:
    """Where the tables, figures and report of a study lie, and its Table 1 in `width` columns of text. Raises UserError."""
    first = results / "tables/table1.csv"
    if not first.is_file():
        raise UserError(f"{first}: not there; run snakemake for this study first")
    try:
        frame = pd.read_csv(first)
    except ValueError:
        frame = pd.DataFrame()
    if list(frame.columns) != summary.COLUMNS or frame.empty:
        raise UserError(f"{first}: not a table of this version; delete it and run snakemake again")
    title = f"{present.heading(frame, layout(1))}; in parentheses what the paper prints and was not measured."
    sheet = present.accuracy_sheet(frame, layout(1), {}, brief=True)
    return "\n".join([*_places(results), "", title, "", rendering.plain(sheet, width)])


def _places(results: Path) -> list[str]:
    """What has been made so far, a line a kind."""
    found = {
        f"Tables   {results / 'tables'}/": sorted(p.name for p in (results / "tables").glob("*.md")),
        f"Figures  {results / 'figures'}/": sorted(p.name for p in (results / "figures").glob("*.png")),
        f"Report   {results}/": sorted(p.name for p in results.glob("report.*")),
    }
    return [f"{place} {', '.join(names)}" for place, names in found.items() if names]


@command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m esp_core tables", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--spec", type=jobspec.read, help="JSON, as `python -m esp_core study CONFIG tables NUMBER` prints it")
    parser.add_argument("--rows", type=Path, nargs="*", help="the per-seed rows of runs, .csv")
    parser.add_argument("--published", type=Path, help="the paper's numbers, esp_core/reporting/published.csv")
    parser.add_argument("--out", type=Path, help="the table, .csv; .md, .tex and .html are written beside it")
    what = parser.add_subparsers(dest="what").add_parser("show", help="where a study's tables, figures and report lie, and its Table 1")
    what.add_argument("study", type=Path, help="folder of the study, results/STUDY")
    args = parser.parse_args()
    if args.what == "show":
        print(show(args.study, shutil.get_terminal_size((120, 24)).columns))
    elif missing := [f"--{name}" for name in ("spec", "rows", "published", "out") if getattr(args, name) is None]:
        parser.error(f"needed: {', '.join(missing)}")
    else:
        run(args.spec, args.rows, args.published, args.out)

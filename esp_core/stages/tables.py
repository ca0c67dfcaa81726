"""Stage `tables`: one of the paper's tables for a study, measured beside published, as CSV, Markdown, LaTeX and HTML.

    python -m esp_core tables --spec JSON --results results/STUDY --published esp_core/reporting/published.csv --out TABLE.csv
    python -m esp_core tables show results/STUDY

The CSV holds a row a (method, cell, network). Its `mean` and `std` are those of the run's own CSV,
`pandas.read_csv(run).accuracy.agg(["mean", "std"])`; `low` and `high` bound the mean's 95 % t-interval.
"""

import argparse
import html
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from esp_core.reporting import present, summary
from esp_core.reporting.sheet import Sheet, escaped, latex, markdown, plain, web
from esp_core.runtime.errors import UserError, command
from esp_core.runtime.files import write
from esp_core.study import jobspec
from esp_core.study.layouts import layout
from esp_core.study.provenance import canonical, digest

STYLE = (
    "body{font-family:sans-serif;margin:2em}h1{font-size:1.2em}p{max-width:60em}table{border-collapse:collapse;margin:1em 0}"
    "th,td{padding:.3em .8em;border-bottom:1px solid #ccc;text-align:right;white-space:nowrap}th:first-child{text-align:left}"
)
BUDGETS = "Stored float32 numbers of each condensed set, and the budget, IPC × classes × C × H × W."


def run(spec: dict[str, Any], results: Path, published: Path, out: Path) -> None:
    """Write the table of `spec` to `out`, .csv, and its .md, .tex and .html beside it.

    Raises UserError where a run's file is damaged, or where runs that were not made alike would stand in one table.
    """
    which = layout(spec["table"])
    printed = summary.read_published(published, spec["table"])
    wanted = summary.keys(spec, printed)
    runs = summary.read_runs(spec, results, wanted)
    frame = summary.summarise(which, wanted, runs, printed)
    sheet = present.accuracy_sheet(frame, which, spec["titles"])
    budgets = present.budget_sheet(frame, which, spec["titles"])
    title = present.heading(frame, which)
    notes = [*present.notes(frame, runs, which), f"Study {spec['study']}, spec {digest(canonical(spec))}."]
    write(out, frame.round(4).to_csv(index=False, lineterminator="\n"))
    write(out.with_suffix(".md"), _markdown(title, sheet, budgets, notes))
    write(out.with_suffix(".tex"), _latex(title, sheet, budgets, notes))
    write(out.with_suffix(".html"), _html(title, sheet, budgets, notes))
    print(f"{out}: {len(wanted)} rows, {(frame.n[: len(wanted)] > 0).sum()} of them measured")


def show(results: Path, width: int) -> str:
    """Where the tables, figures and report of a study lie, and its Table 1 in `width` columns of text. Raises UserError."""
    first = results / "tables/table1.csv"
    if not first.is_file():
        raise UserError(f"{first}: not there; run snakemake for this study first")
    try:
        frame = pd.read_csv(first)
    except ValueError:
        frame = pd.DataFrame()
    if tuple(frame.columns) != summary.COLUMNS or frame.empty:
        raise UserError(f"{first}: not a table of this version; delete it and run snakemake again")
    which = layout(1)
    title = f"{present.heading(frame, which)}; in parentheses what the paper prints and was not measured."
    return "\n".join([*_places(results), "", title, "", plain(present.accuracy_sheet(frame, which, {}), width)])


def _markdown(title: str, sheet: Sheet, budgets: Sheet | None, notes: list[str]) -> str:
    parts = [f"# {title}", markdown(sheet), *notes, *([BUDGETS, markdown(budgets)] if budgets else [])]
    return "\n\n".join(parts) + "\n"


def _html(title: str, sheet: Sheet, budgets: Sheet | None, notes: list[str]) -> str:
    parts = [f"<h1>{html.escape(title)}</h1>", web(sheet), *(f"<p>{html.escape(note)}</p>" for note in notes)]
    parts += [f"<p>{html.escape(BUDGETS)}</p>", web(budgets)] if budgets else []
    head = f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n<style>{STYLE}</style>'
    return "\n".join([head, *parts, "</html>"]) + "\n"


def _latex(title: str, sheet: Sheet, budgets: Sheet | None, notes: list[str]) -> str:
    def fitted(body: str) -> list[str]:
        return ["\\begin{adjustbox}{max width=\\textwidth}", body, "\\end{adjustbox}"]

    lines = ["% needs packages booktabs and adjustbox", "\\begin{table}", "\\centering"]
    lines += [f"\\caption{{{escaped(title.partition('. ')[2])}.}}", *fitted(latex(sheet))]
    if budgets:
        lines += ["", f"\\medskip {escaped(BUDGETS)}", "", *fitted(latex(budgets))]
    return "\n".join([*lines, "", "\\medskip\\footnotesize", *map(escaped, notes), "\\end{table}"]) + "\n"


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
    parser.add_argument("--results", type=Path, help="folder of the study, results/STUDY")
    parser.add_argument("--published", type=Path, help="the paper's numbers, esp_core/reporting/published.csv")
    parser.add_argument("--out", type=Path, help="the table, .csv; .md, .tex and .html are written beside it")
    what = parser.add_subparsers(dest="what").add_parser("show", help="where a study's tables, figures and report lie, and its Table 1")
    what.add_argument("study", type=Path, help="folder of the study, results/STUDY")
    args = parser.parse_args()
    if args.what == "show":
        print(show(args.study, shutil.get_terminal_size((120, 24)).columns))
    elif missing := [f"--{name}" for name in ("spec", "results", "published", "out") if getattr(args, name) is None]:
        parser.error(f"needed: {', '.join(missing)}")
    else:
        run(args.spec, args.results, args.published, args.out)

"""Stage `tables`: one of the paper's tables, or a study's own, with measured and published numbers; CSV, Markdown, LaTeX and HTML.

    python -m esp_core tables --spec JSON --rows ROWS.csv… --published esp_core/reporting/published.csv --out TABLE.csv

The CSV has a row for each (method, cell, network). Its `mean` and `std` are those of the run's own CSV,
`pandas.read_csv(run).accuracy.agg(["mean", "std"])`; `low` and `high` bound the 95 % t-interval of the mean. `--rows` takes one file per
run; runs that the table does not show are left out and counted in the log.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from esp_core.reporting import reading, rendering, summary, table_text
from esp_core.runtime.errors import command
from esp_core.study import arguments
from esp_core.study.layouts import layout
from esp_core.study.provenance import canonical, digest

BUDGETS = "Stored float32 numbers of each condensed set, and the budget, IPC × classes × C × H × W."


def run(spec: dict[str, Any], rows: Iterable[Path], published: Path, out: Path) -> None:
    """Write the table of `spec` to `out`, a .csv, and to .md, .tex and .html files beside it.

    Raises UserError if a run's file is damaged, or if the runs of the table were not made alike.
    """
    which = layout(spec["table"], spec.get("name", ""), spec.get("title", ""))
    printed = reading.read_published(published).query("table == @which.number")
    given = reading.read(rows)
    keys = summary.wanted(spec, printed)
    shown = keys.merge(given, on=reading.KEY)
    reading.refuse_mixtures(shown)
    frame = summary.summarise(which, keys, shown, printed)
    budgets = table_text.budget_sheet(frame, spec["titles"])
    parts: list[rendering.Part] = [table_text.accuracy_sheet(frame, which, spec["titles"]), *table_text.notes(frame, shown, which)]
    parts.append(f"Study {spec['study']}, spec {digest(canonical(spec))}.")
    parts += [] if budgets is None else [BUDGETS, budgets]
    rendering.write(out, frame, table_text.heading(frame, which), parts)
    left = given.file.nunique() - shown.file.nunique()
    print(f"{out}: {len(keys)} rows, {shown.file.nunique()} of them measured; {left} files of other rows left out")


@command
def main() -> None:
    parser = arguments.parser("tables", __doc__, "the table, .csv; .md, .tex and .html are written beside it")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="the per-seed rows of runs, .csv")
    parser.add_argument("--published", type=Path, required=True, help="the paper's numbers, esp_core/reporting/published.csv")
    run(**vars(parser.parse_args()))

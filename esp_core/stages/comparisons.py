"""Stage `comparisons`: accuracy differences of methods, paired by seed, with 95 % t-intervals; writes CSV, Markdown, LaTeX and HTML.

    python -m esp_core comparisons --spec JSON --rows ROWS.csv… --published esp_core/reporting/published.csv --out COMPARISONS.csv

The CSV has a row for each (pair of methods, cell, network): n, mean and std of the differences over seeds that both have, the interval
`low` to `high`, and the paper's difference.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from esp_core.reporting import reading, rendering, summary, table_text
from esp_core.reporting.reading import KEY
from esp_core.runtime.errors import command
from esp_core.study import arguments
from esp_core.study.provenance import canonical, digest

COLUMNS = ["of", "against", *KEY[1:], *summary.MEASURED, "published"]


def run(spec: dict[str, Any], rows: Iterable[Path], published: Path, out: Path) -> None:
    """Write the comparisons of `spec` to `out`, a .csv, and to .md, .tex and .html files beside it. Raises UserError as in `tables`."""
    keys = pd.DataFrame(spec["compared"], columns=COLUMNS[:5])
    keys = keys.assign(method=keys.of + "-" + keys.against)
    pairs = list(dict.fromkeys((of, against) for of, against, *_ in spec["compared"]))
    sides = pd.concat([keys[KEY[1:]].assign(method=keys[side]) for side in ("of", "against")]).drop_duplicates()
    given, printed = sides.merge(reading.read(rows), on=KEY), reading.read_published(published)
    reading.refuse_mixtures(given)
    ours = pd.concat([summary.paired(a, b, given, "accuracy", [*KEY[1:], "seed"]) for a, b in pairs])
    papers = pd.concat([summary.paired(a, b, printed, "published_mean", [*KEY[1:], "table"]) for a, b in pairs]).drop_duplicates(KEY)
    frame = keys.merge(summary.statistics(ours), how="left", on=KEY)
    frame = frame.merge(papers.rename(columns={"published_mean": "published"}), how="left", on=KEY)
    frame = frame.assign(n=frame.n.fillna(0).astype("int64"), text=[_entry(one) for one in frame.to_dict("records")])
    named = {f"{a}-{b}": f"{spec['titles'][a]} − {spec['titles'][b]}" for a, b in pairs}
    columns = ["dataset", "ipc", *(["network"] if frame.network.nunique() > 1 else [])]
    title = "Comparisons. Differences in accuracy, in points, seed by seed"
    rendering.write(out, frame[COLUMNS], title, [table_text.sheet(frame, ["method"], columns, named), *_notes(spec, frame, given)])
    print(f"{out}: {len(frame)} comparisons, {(frame.n > 0).sum()} of them measured")


def _entry(one: dict[Any, Any]) -> str:
    ours = table_text.estimate(one["mean"], one["low"], one["high"]) if one["n"] > 0 else table_text.NOT_MEASURED
    return ours if pd.isna(one["published"]) else f"{ours} ({table_text.signed(one['published'])})"


def _notes(spec: dict[str, Any], frame: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """Sentences that say how the differences were obtained."""
    said = [f"Study {spec['study']}, spec {digest(canonical(spec))}."]
    if frame.published.notna().any():
        said.insert(0, "In parentheses is the difference of the paper's means.")
    if not (frame.n > 0).any():
        return said
    seeds = table_text.counted(frame.n[frame.n > 0])
    return [
        f"An entry is the mean of the differences over seeds, n = {seeds}, with its 95 % t-interval where there are two or more; "
        "that covers the seeds of these trainings, not another distillation.",
        table_text.alike(rows),
        table_text.made_by(rows),
        *said,
    ]


@command
def main() -> None:
    parser = arguments.parser("comparisons", __doc__, "the comparisons, .csv; .md, .tex and .html are written beside it")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="the per-seed rows of runs, .csv")
    parser.add_argument("--published", type=Path, required=True, help="the paper's numbers, esp_core/reporting/published.csv")
    run(**vars(parser.parse_args()))

"""Show where a study's tables, figures and report are, and its Table 1 as text.

python -m esp_core show results/STUDY
"""

import shutil
from pathlib import Path

import pandas as pd

from esp_core.reporting import rendering, summary, table_text
from esp_core.runtime.errors import UserError, command
from esp_core.study import arguments
from esp_core.study.layouts import layout


def show(results: Path, width: int) -> str:
    """What has been made so far, a line per kind, and Table 1 in `width` columns. Raises UserError if there is none."""
    first = results / "tables/table1.csv"
    if not first.is_file():
        raise UserError(f"{first}: not there; run snakemake for this study first")
    try:
        frame = pd.read_csv(first)
    except ValueError:
        frame = pd.DataFrame()
    if list(frame.columns) != summary.COLUMNS or frame.empty:
        raise UserError(f"{first}: not a table of this version; delete it and run snakemake again")
    title = f"{table_text.heading(frame, layout(1))}; in parentheses what the paper prints and was not measured."
    sheet = table_text.accuracy_sheet(frame, layout(1), {}, brief=True)
    places = {"Tables   {}/tables/": "tables/*.md", "Figures  {}/figures/": "figures/*.png", "Report   {}/": "report.*"}
    found = {place.format(results): sorted(path.name for path in results.glob(pattern)) for place, pattern in places.items()}
    made = [f"{place} {', '.join(names)}" for place, names in found.items() if names]
    return "\n".join([*made, "", title, "", rendering.plain(sheet, width)])


@command
def main() -> None:
    parser = arguments.named("show", __doc__)
    parser.add_argument("study", type=Path, help="folder of the study, results/STUDY")
    print(show(parser.parse_args().study, shutil.get_terminal_size((120, 24)).columns))

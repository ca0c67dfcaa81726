"""Stage `claims`: test each claim of the paper on a study's results; writes CSV, Markdown and HTML.

    python -m esp_core claims --spec JSON --rows ROWS.csv… --figures figure7.csv figure8.csv --published esp_core/reporting/published.csv
        --claims esp_core/reporting/claims.yaml --out CLAIMS.csv

The CSV has a row for each question, which is a claim about one cell, one dataset or the study. `estimate`, with its 95 % interval `low` to
`high`, is the comparison least favourable to the claim; `comparison` names it, `comparisons` is their number. The `paper` columns hold
the same estimate from the paper's printed numbers. What is not among the files is not measured.
"""

import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from esp_core.reporting import reading, rendering, table_text, verdicts
from esp_core.reporting.claims import Claim, Evidence, Question, questions
from esp_core.reporting.claims import read as read_claims
from esp_core.reporting.verdicts import NOT_MEASURED, Answer, Sample
from esp_core.runtime.errors import UserError, command
from esp_core.study import arguments
from esp_core.study.layouts import DATASET_TITLES, METHOD_TITLES, NETWORK_TITLES
from esp_core.study.provenance import canonical, digest

AUTHORS_OWN = ("esp", "esp_proj", "esp_dm", "full")  # these are the authors' own: the paper's numbers never replace ours
QUOTED_RUNS = 5  # Section 4.2; the paper does not print the number of runs behind quoted numbers
FIGURES = {
    "figure7": (["method", "device"], ["ipc", "steps", "bytes"]),
    "figure8": (["dataset"], ["ipc", "synthetic_batch", "mean", "std", "n"]),
}
STYLE = "th,td{text-align:left;vertical-align:top;white-space:normal}td:first-child{min-width:20em}"
FORMS: dict[str, rendering.Form] = {".md": rendering.markdown, ".html": partial(rendering.web, style=STYLE)}


def run(spec: dict[str, Any], rows: Iterable[Path], figures: Iterable[Path], published: Path, claims: Path, out: Path) -> None:
    """Write the study's verdicts on the claims in `claims` to `out`, a .csv, and to .md and .html files beside it.

    Raises UserError if a file is damaged, or if the runs were not made alike.
    """
    given, printed, listed = reading.read(rows), reading.read_published(published), read_claims(claims)
    reading.refuse_mixtures(given)
    drawn = {name: pd.DataFrame(columns=[*words, *numbers]) for name, (words, numbers) in FIGURES.items()}
    drawn |= {path.stem: _figure(path) for path in figures}
    ours = {key: verdicts.measured(run.set_index("seed").accuracy) for key, run in given.groupby(reading.KEY, sort=False)}
    asked = list(questions(listed, spec))
    frame = pd.DataFrame([_record(question, *_answers(question, ours, printed, drawn)) for question in asked])
    title = f"What the paper claims, and what study {spec['study']} says to it"
    rendering.write(out, frame, title, [_sheet(asked, frame, spec["titles"]), *_notes(spec, listed, given, frame)], FORMS)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in frame.verdict.value_counts().items())
    print(f"{out}: {len(frame)} questions, {counts}")


def _figure(path: Path) -> pd.DataFrame:
    """The numbers of a figure, without missing points. Raises UserError for another file."""
    if path.stem not in FIGURES:
        raise UserError(f"--figures {path}: no claim is about it; give {' or '.join(FIGURES)}, .csv")
    words, numbers = FIGURES[path.stem]
    return reading.table(path, words, numbers).dropna(subset=numbers)


def _answers(question: Question, ours: dict[Any, Sample], printed: pd.DataFrame, drawn: dict[str, pd.DataFrame]) -> list[Answer]:
    """The verdicts by our measurements and by the paper's numbers, of which there are none for Figures 7 and 8.

    The paper's numbers come from the first of the claim's tables that has the run.
    """
    tables = pd.concat([printed[:0], *(printed[printed.table == table] for table in question.claim.tables)]).drop_duplicates(reading.KEY)
    paper = {tuple(key): Sample(mean, std, QUOTED_RUNS) for _, *key, mean, std in tables.itertuples(index=False, name=None)}
    quoted = {key: sample for key, sample in paper.items() if key[0] not in AUTHORS_OWN}
    memory, batches = drawn["figure7"], drawn["figure8"]
    evidence = [Evidence(ours, quoted | ours, memory, batches), Evidence(paper, paper, memory[:0], batches[:0])]
    return [verdicts.decide(question.compare(one), question.allowed) for one in evidence]


def _record(question: Question, ours: Answer, paper: Answer) -> dict[str, Any]:
    """A row of the CSV."""
    claim, (low, high) = question.claim, question.allowed
    return {
        **{key: getattr(claim, key) for key in ("id", "claim", "source")},
        "dataset": question.dataset,
        "ipc": " ".join(map(str, question.ipcs)),
        "network": question.network,
        "decides": f"above {low:g}" if high == math.inf else f"below {high:g}" if low == -math.inf else f"{low:g} to {high:g}",
        **dict(zip(("paper", "paper_low", "paper_high"), paper.numbers, strict=True)),
        "paper_verdict": paper.verdict if paper.comparisons else "",
        **dict(zip(("estimate", "low", "high"), ours.numbers, strict=True)),
        "unit": "times" if claim.about == "study" else "%" if claim.test.get("relative") else "points",
        "comparison": ours.weakest.name,
        "comparisons": ours.comparisons,
        "basis": ours.weakest.basis,
        "verdict": ours.verdict,
    }


def _sheet(questions: list[Question], frame: pd.DataFrame, titles: dict[str, str]) -> pd.DataFrame:
    """A row for each question; the text of a claim is shown once."""
    first = ~frame.id.duplicated()
    heads = {"Claim": frame.claim.where(first, ""), "Source": frame.source.where(first, ""), "Asked of": [one.case for one in questions]}
    columns = pd.MultiIndex.from_tuples([("Holds where",), ("By the paper's numbers",), ("Ours",), ("Verdict",)])
    shown = [_shown(record, titles) for record in frame.to_dict("records")]
    return pd.DataFrame(shown, index=pd.MultiIndex.from_frame(pd.DataFrame(heads)), columns=columns)


def _shown(one: dict[Any, Any], titles: dict[str, str]) -> list[str]:
    decides, times = one["decides"].replace("-", "−"), one["unit"] == "times"
    paper = _estimate(one["paper"], one["paper_low"], one["paper_high"], times)
    if one["paper_verdict"]:
        paper += f" ({one['paper_verdict']})"
    if not one["comparisons"]:
        return [f"ratio {decides}" if times else f"{decides} {one['unit']}", paper, "", NOT_MEASURED]
    known = {**METHOD_TITLES, **NETWORK_TITLES, **titles, "-": "−"}
    name = " ".join(known.get(word, word) for word in one["comparison"].split(" "))
    several = f", the hardest of {one['comparisons']}" if one["comparisons"] > 1 else ""
    ours = f"{_estimate(one['estimate'], one['low'], one['high'], times)} ({name}{several}; {one['basis']})"
    return [f"ratio {decides}" if times else f"{decides} {one['unit']}", paper, ours, f"**{one['verdict']}**"]


def _estimate(value: float, low: float, high: float, times: bool) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.2f}" if times else table_text.estimate(value, low, high)


def _notes(spec: dict[str, Any], asked: list[Claim], given: pd.DataFrame, frame: pd.DataFrame) -> list[str]:
    """Sentences that say how the verdicts were obtained."""
    said = [
        "A claim holds where the 95 % interval of every comparison lies within what decides it, and does not hold where an interval lies "
        "wholly outside, at level 1 − 0.05/k where there are k comparisons; it is undecided in between. Shown is the comparison that is "
        "the hardest for the claim.",
        "Intervals are over seeds of the network that is trained, paired by seed where both sides were measured and Welch's where one is "
        f"quoted (taken as {QUOTED_RUNS} runs); they do not cover another distillation.",
        "By the paper's numbers: the same test on what the paper prints. Where it prints a curve and no number there is nothing.",
    ]
    lacking = {dataset for claim in asked for dataset in claim.cells} - {dataset for dataset, _ in spec["cells"]}
    if named := [title for dataset, title in DATASET_TITLES.items() if dataset in lacking]:
        said.append(f"Not asked, since the study lacks the dataset: claims about {', '.join(named)}.")
    if not given.empty:
        said.append(table_text.made_by(given))
    if frame.verdict.eq(NOT_MEASURED).any():
        said.append("Not measured: a row or a figure that the test needs is not there.")
    return [*said, f"Study {spec['study']}, spec {digest(canonical(spec))}."]


@command
def main() -> None:
    parser = arguments.parser("claims", __doc__, "the claims, .csv; .md and .html are written beside it")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="the per-seed rows of runs, .csv")
    parser.add_argument("--figures", type=Path, nargs="*", default=[], help="the numbers of Figures 7 and 8, figure7.csv and figure8.csv")
    parser.add_argument("--published", type=Path, required=True, help="the paper's numbers, esp_core/reporting/published.csv")
    parser.add_argument("--claims", type=Path, required=True, help="the paper's claims, esp_core/reporting/claims.yaml")
    run(**vars(parser.parse_args()))

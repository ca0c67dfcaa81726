"""Stage `claims`: what a study says to each claim of the paper, as CSV, Markdown and HTML.

    python -m esp_core claims --spec JSON --rows ROWS.csv… --figures figure7.csv figure8.csv --published esp_core/reporting/published.csv
        --claims esp_core/reporting/claims.yaml --out CLAIMS.csv

The CSV holds a row a question: a claim in one cell, on one dataset, or of the study. `estimate` with its 95 % interval, `low` to
`high`, is the comparison that is the hardest for the claim, `comparison` names it, `comparisons` counts them. `paper` columns are
the same estimate from the numbers that the paper prints. What is not among the files counts as not measured.
"""

import argparse
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from esp_core.reporting import claims, present, rendering, rows, verdicts
from esp_core.reporting.claims import Claim, Evidence, Key, Question
from esp_core.reporting.verdicts import NOT_MEASURED, Answer, Sample
from esp_core.runtime.errors import UserError, command
from esp_core.runtime.files import write
from esp_core.study import jobspec
from esp_core.study.layouts import DATASET_TITLES, METHOD_TITLES, NETWORK_TITLES
from esp_core.study.provenance import canonical, digest

COLUMNS = (
    "id,claim,source,dataset,ipc,network,decides,paper,paper_low,paper_high,paper_verdict,estimate,low,high,unit,comparison,"
    "comparisons,basis,verdict"
).split(",")
AUTHORS_OWN = ("esp", "esp_proj", "esp_dm", "full")  # the paper's number for these never stands in for ours
QUOTED_RUNS = 5  # Section 4.2; that of the numbers which the paper takes from others is not printed
FIGURES = {
    "figure7": (["method", "device"], ["ipc", "steps", "bytes"]),
    "figure8": (["dataset"], ["ipc", "synthetic_batch", "mean", "std", "n"]),
}
STYLE = "th,td{text-align:left;vertical-align:top;white-space:normal}td:first-child{min-width:20em}"


def run(spec: dict[str, Any], row_files: Iterable[Path], figures: Iterable[Path], published: Path, listed: Path, out: Path) -> None:
    """Write what the study of `spec` says to the claims in `listed` to `out`, .csv, and its .md and .html beside it.

    Raises UserError where a run's file or a figure's is damaged, or where the runs were not made alike.
    """
    given, printed, asked = rows.read(row_files), rows.read_published(published), claims.read(listed)
    rows.refuse_mixtures(given)
    drawn = {name: pd.DataFrame(columns=[*words, *numbers]) for name, (words, numbers) in FIGURES.items()} | {
        path.stem: _figure(path) for path in figures
    }
    ours = {key: verdicts.measured(run.set_index("seed").accuracy) for key, run in given.groupby(rows.KEY, sort=False)}
    questions = list(claims.questions(asked, spec))
    records = [_record(question, *_answers(question, ours, printed, drawn)) for question in questions]
    frame = pd.DataFrame(records, columns=COLUMNS)
    title = f"What the paper claims, and what study {spec['study']} says to it"
    parts: list[rendering.Part] = [_sheet(questions, frame, spec["titles"]), *_notes(spec, asked, given, frame)]
    write(out, frame.round(4).to_csv(index=False, lineterminator="\n"))
    write(out.with_suffix(".md"), rendering.markdown(title, parts))
    write(out.with_suffix(".html"), rendering.web(title, parts, STYLE))
    counts = ", ".join(f"{count} {verdict}" for verdict, count in frame.verdict.value_counts().items())
    print(f"{out}: {len(frame)} questions, {counts}")


def _figure(path: Path) -> pd.DataFrame:
    """The numbers of a figure; points without a number are left out. Raises UserError where the file is another's."""
    if path.stem not in FIGURES:
        raise UserError(f"--figures {path}: no claim is about it; give {' or '.join(FIGURES)}, .csv")
    return rows.read_figure(path, *FIGURES[path.stem]).dropna()


def _answers(question: Question, ours: dict[Any, Sample], printed: pd.DataFrame, drawn: dict[str, pd.DataFrame]) -> list[Answer]:
    """What our measurements and the paper's own numbers say; the paper prints none for Figures 7 and 8."""
    paper = _printed(printed, question.claim)

    def against(key: Key) -> Sample | None:
        return ours.get(key) or (None if key[0] in AUTHORS_OWN else paper.get(key))

    memory, batches = drawn["figure7"], drawn["figure8"]
    evidence = [Evidence(ours.get, against, memory, batches), Evidence(paper.get, paper.get, memory[:0], batches[:0])]
    return [verdicts.decide(question.compare(one), question.allowed) for one in evidence]


def _printed(printed: pd.DataFrame, claim: Claim) -> dict[Any, Sample]:
    """The paper's numbers, from the first of the claim's tables that has the run."""
    frame = pd.concat([printed[:0], *(printed[printed.table == table] for table in claim.tables)]).drop_duplicates(rows.KEY)
    return {tuple(key): Sample(mean, std, QUOTED_RUNS) for _, *key, mean, std in frame.itertuples(index=False, name=None)}


def _record(question: Question, ours: Answer, paper: Answer) -> dict[str, Any]:
    claim, (low, high) = question.claim, question.allowed
    record: dict[str, Any] = {
        **{key: getattr(claim, key) for key in ("id", "claim", "source")},
        "dataset": question.dataset,
        "ipc": " ".join(map(str, question.ipcs)),
        "network": question.network,
        "decides": f"above {low:g}" if high == math.inf else f"below {high:g}" if low == -math.inf else f"{low:g} to {high:g}",
        "paper_verdict": "" if paper.weakest is None else paper.verdict,
        "unit": "times" if claim.about == "study" else "%" if claim.test.get("relative") else "points",
        "comparisons": ours.comparisons,
        "verdict": ours.verdict,
    }
    if ours.weakest:
        record |= {"comparison": ours.weakest.name, "basis": ours.weakest.basis}
    for names, answer in ((("paper", "paper_low", "paper_high"), paper), (("estimate", "low", "high"), ours)):
        if answer.weakest:
            record |= dict(zip(names, (answer.weakest.estimate, *answer.weakest.interval()), strict=True))
    return record


def _sheet(questions: list[Question], frame: pd.DataFrame, titles: dict[str, str]) -> pd.DataFrame:
    """A row a question; a claim that is asked several times is written out once."""
    first = ~frame.id.duplicated()
    cases = pd.Series([question.case or "Figure 7" for question in questions])
    heads = [frame.claim.where(first, ""), frame.source.where(first, ""), cases]
    shown = [_shown(record, titles) for record in frame.to_dict("records")]
    columns = pd.MultiIndex.from_tuples([("Holds where",), ("By the paper's numbers",), ("Ours",), ("Verdict",)])
    return pd.DataFrame(shown, index=pd.MultiIndex.from_arrays(heads, names=["Claim", "Source", "Asked of"]), columns=columns)


def _shown(record: dict[Any, Any], titles: dict[str, str]) -> list[str]:
    decides, times = record["decides"].replace("-", "−"), record["unit"] == "times"
    paper, ours = (_estimate([record[name] for name in names], times) for names in (COLUMNS[7:10], COLUMNS[11:14]))
    if record["paper_verdict"]:
        paper += f" ({record['paper_verdict']})"
    if record["comparisons"]:
        known = {**METHOD_TITLES, **NETWORK_TITLES, **titles, "-": "−"}
        name = " ".join(known.get(word, word) for word in record["comparison"].split(" "))
        several = f", the hardest of {record['comparisons']}" if record["comparisons"] > 1 else ""
        ours += f" ({name}{several}; {record['basis']})"
    verdict = record["verdict"] if record["verdict"] == NOT_MEASURED else f"**{record['verdict']}**"
    return [f"ratio {decides}" if times else f"{decides} {record['unit']}", paper, ours, verdict]


def _estimate(numbers: list[float], times: bool) -> str:
    value, low, high = numbers
    if pd.isna(value):
        return ""
    if times:
        return f"{value:.2f}"
    return (
        present.signed(value) if low == high or pd.isna(low) else f"{present.signed(value)} [{present.signed(low)}, {present.signed(high)}]"
    )


def _notes(spec: dict[str, Any], asked: list[Claim], given: pd.DataFrame, frame: pd.DataFrame) -> list[str]:
    """Sentences that say how the verdicts came about."""
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
        said.append(present.made_by(given))
    if frame.verdict.eq(NOT_MEASURED).any():
        said.append("Not measured: a row or a figure that the test needs is not there.")
    return [*said, f"Study {spec['study']}, spec {digest(canonical(spec))}."]


@command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m esp_core claims", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--spec", type=jobspec.read, required=True, help="JSON, as `python -m esp_core study CONFIG claims` prints it")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="the per-seed rows of runs, .csv")
    parser.add_argument("--figures", type=Path, nargs="*", default=[], help="the numbers of Figures 7 and 8, figure7.csv and figure8.csv")
    parser.add_argument("--published", type=Path, required=True, help="the paper's numbers, esp_core/reporting/published.csv")
    parser.add_argument("--claims", type=Path, required=True, help="the paper's claims, esp_core/reporting/claims.yaml")
    parser.add_argument("--out", type=Path, required=True, help="the claims, .csv; .md and .html are written beside it")
    args = parser.parse_args()
    run(args.spec, args.rows, args.figures, args.published, args.claims, args.out)

"""Stage `claims`: what a study says to each claim of the paper, as CSV, Markdown and HTML.

    python -m esp_core claims --spec JSON --results results/STUDY --published esp_core/reporting/published.csv --out CLAIMS.csv

The CSV holds a row a question: a claim in one cell, on one dataset, or of the study. `estimate` with its 95 % interval, `low` to
`high`, is the comparison that is the hardest for the claim, `comparison` names it, `comparisons` counts them. `paper` columns are
the same estimate from the numbers that the paper prints. The claims and their tests are in esp_core/study/claims.yaml.
"""

import argparse
import html
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from esp_core.reporting import claiming, runs, summary
from esp_core.reporting.claiming import NOT_MEASURED, Answer, Look, Sample
from esp_core.reporting.sheet import Entry, Sheet, markdown, web
from esp_core.runtime.errors import UserError, command
from esp_core.runtime.files import write
from esp_core.study import asking, jobspec
from esp_core.study.asking import Key, Question
from esp_core.study.layouts import DATASET_TITLES, LAYOUTS, METHOD_TITLES, NETWORK_TITLES
from esp_core.study.provenance import canonical, digest

COLUMNS = tuple(
    "id,claim,source,dataset,ipc,network,decides,paper,paper_low,paper_high,paper_verdict,estimate,low,high,unit,comparison,"
    "comparisons,basis,verdict".split(",")
)
AUTHORS_OWN = ("esp", "esp_proj", "esp_dm", "full")  # the paper's number for these never stands in for ours
QUOTED_RUNS = 5  # Section 4.2; that of the numbers which the paper takes from others is not printed
FIGURES = {
    "figure7": ("method", "ipc", "steps", "bytes", "device"),
    "figure8": ("dataset", "ipc", "synthetic_batch", "mean", "std", "n"),
}
STYLE = (
    "body{font-family:sans-serif;margin:2em}h1{font-size:1.2em}p{max-width:60em}table{border-collapse:collapse;margin:1em 0}"
    "th,td{padding:.3em .8em;border-bottom:1px solid #ccc;text-align:left;vertical-align:top;font-weight:normal}"
    "thead th{font-weight:bold}tbody th:first-child{min-width:20em}"
)


def run(spec: dict[str, Any], results: Path, published: Path, out: Path) -> None:
    """Write the claims of `spec` to `out`, .csv, and its .md and .html beside it.

    Raises UserError where a run's file or a figure's is damaged, or where the runs were not made alike.
    """
    rows = _rows(spec, results)
    printed = {table: summary.read_published(published, table) for table in LAYOUTS}
    figures = {name: _figure(results, name) for name in FIGURES}
    questions = list(asking.questions(*(spec[key] for key in ("claims", "cells", "networks", "own"))))
    records = [_record(question, *_answers(question, _samples(rows), printed, figures)) for question in questions]
    frame = pd.DataFrame(records, columns=list(COLUMNS))
    sheet, notes = _sheet(questions, records, spec["titles"]), _notes(spec, rows, frame)
    write(out, frame.round(4).to_csv(index=False, lineterminator="\n"))
    write(out.with_suffix(".md"), "\n\n".join([f"# {_title(spec)}", markdown(sheet), *notes]) + "\n")
    write(out.with_suffix(".html"), _html(_title(spec), sheet, notes))
    counts = ", ".join(f"{count} {verdict}" for verdict, count in frame.verdict.value_counts().items())
    print(f"{out}: {len(frame)} questions, {counts}")


def _rows(spec: dict[str, Any], results: Path) -> pd.DataFrame:
    """The per-seed rows that the questions need and that are there."""
    paths = [(runs.path_of(results, *row), row) for row in spec["rows"]]
    found = [runs.read(path, *row) for path, row in paths if path.is_file()]
    if not found:
        return pd.DataFrame(columns=[*runs.NUMBERS, *runs.WORDS, "file"])
    rows = pd.concat(found, ignore_index=True)
    runs.refuse_mixtures(rows)
    return rows


def _samples(rows: pd.DataFrame) -> dict[Any, Sample]:
    """Our accuracies by (method, dataset, IPC, network)."""
    return {key: claiming.measured(part.set_index("seed").accuracy) for key, part in rows.groupby(list(summary.KEY), sort=False)}


def _figure(results: Path, name: str) -> pd.DataFrame:
    """The numbers of a figure; none where it was not drawn. Raises UserError where the file is another's."""
    path, wanted = results / "figures" / f"{name}.csv", FIGURES[name]
    if not path.is_file():
        return pd.DataFrame(columns=list(wanted))
    try:
        frame = pd.read_csv(path)
        numbers = [column for column in wanted if column not in ("method", "device", "dataset")]
        return frame.assign(**{column: pd.to_numeric(frame[column]) for column in numbers})[list(wanted)].dropna()
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: must have columns {', '.join(wanted)}, and numbers in them ({error}); delete it and run again") from None


def _answers(question: Question, ours: dict[Any, Sample], printed: Mapping[int, summary.Printed], figures: dict[str, Any]) -> list[Answer]:
    """What our measurements and the paper's own numbers say."""
    allowed = claiming.region(question)
    if question.kind == "batch":
        return [claiming.decide(claiming.on_batches(question, figures["figure8"]), allowed), Answer(NOT_MEASURED)]
    if asking.ABOUT[question.kind] == "study":
        return [claiming.decide(claiming.on_memory(question, figures["figure7"]), allowed), Answer(NOT_MEASURED)]
    paper = _printed(printed, question.claim["tables"])

    def against(key: Key) -> Sample | None:
        return ours.get(key) or (None if key[0] in AUTHORS_OWN else paper(key))

    sides: list[tuple[Look, Look]] = [(ours.get, against), (paper, paper)]
    return [claiming.decide(claiming.on_rows(question, *side), allowed) for side in sides]


def _printed(printed: Mapping[int, summary.Printed], tables: Iterable[int]) -> Look:
    """The paper's numbers, from the first of `tables` that has the row."""
    found: dict[Key, tuple[float, float]] = {}
    for table in tables:
        found = printed[table] | found

    def look(key: Key) -> Sample | None:
        return Sample(*found[key], QUOTED_RUNS) if key in found else None

    return look


def _record(question: Question, ours: Answer, paper: Answer) -> dict[str, Any]:
    record: dict[str, Any] = {
        **{key: " ".join(question.claim[key].split()) for key in ("id", "claim", "source")},
        "dataset": question.dataset,
        "ipc": " ".join(map(str, question.ipcs)),
        "network": question.network,
        "decides": _decides(question),
        "paper_verdict": "" if paper.weakest is None else paper.verdict,
        "unit": _unit(question),
        "comparisons": ours.comparisons,
        "verdict": ours.verdict,
    }
    for prefix, answer in (("paper", paper), ("", ours)):
        low, high = answer.weakest.interval() if answer.weakest else (None, None)
        record[prefix or "estimate"] = answer.weakest.estimate if answer.weakest else None
        record |= {f"{prefix}_low".strip("_"): low, f"{prefix}_high".strip("_"): high}
    return record | ({"comparison": ours.weakest.name, "basis": ours.weakest.basis} if ours.weakest else {})


def _unit(question: Question) -> str:
    if asking.ABOUT[question.kind] == "study":
        return "times"
    return "%" if question.claim["test"].get("relative") else "points"


def _decides(question: Question) -> str:
    low, high = claiming.region(question)
    ((how, _),) = question.claim["decide"].items()
    return {"above": f"above {low:g}", "below": f"below {high:g}"}.get(how, f"{low:g} to {high:g}")


def _sheet(questions: list[Question], records: list[dict[str, Any]], titles: dict[str, str]) -> Sheet:
    """A row a question; a claim that is asked several times is written out once."""
    rows: list[tuple[tuple[str, ...], list[Entry]]] = []
    above = ""
    for question, record in zip(questions, records, strict=True):
        first = record["id"] != above
        above = record["id"]
        heading = (record["claim"] if first else "", record["source"] if first else "", question.case or "Figure 7")
        paper = Entry(_estimate(record, "paper"), record["paper_verdict"])
        ours = Entry(_estimate(record, ""), _basis(record, titles))
        rows.append((heading, [Entry(_condition(record)), paper, ours, Entry(record["verdict"], bold=record["verdict"] != NOT_MEASURED)]))
    return Sheet(("Claim", "Source", "Asked of"), [("Holds where",), ("By the paper's numbers",), ("Ours",), ("Verdict",)], rows)


def _condition(record: dict[str, Any]) -> str:
    decides = record["decides"].replace("-", "−")
    return f"ratio {decides}" if record["unit"] == "times" else f"{decides} {record['unit']}"


def _estimate(record: dict[str, Any], prefix: str) -> str:
    value, low, high = (record[name] for name in ((prefix or "estimate"), *(f"{prefix}_{end}".strip("_") for end in ("low", "high"))))
    if value is None:
        return ""
    form, digits = ("{:.2f}", 2) if record["unit"] == "times" else ("{:+.1f}", 1)
    shown = [form.format(round(number, digits) + 0.0).replace("-", "−") for number in (value, low, high)]
    return shown[0] if low == high or pd.isna(low) else f"{shown[0]} [{shown[1]}, {shown[2]}]"


def _basis(record: dict[str, Any], titles: dict[str, str]) -> str:
    if not record.get("comparison"):
        return ""
    known = {**METHOD_TITLES, **NETWORK_TITLES, **titles, "-": "−"}
    name = " ".join(known.get(word, word) for word in record["comparison"].split(" "))
    several = f", the hardest of {record['comparisons']}" if record["comparisons"] > 1 else ""
    return f"{name}{several}; {record['basis']}"


def _notes(spec: dict[str, Any], rows: pd.DataFrame, frame: pd.DataFrame) -> list[str]:
    """Sentences that say how the verdicts came about."""
    said = [
        "A claim holds where the 95 % interval of every comparison lies within what decides it, and does not hold where an interval lies "
        "wholly outside, at level 1 − 0.05/k where there are k comparisons; it is undecided in between. Shown is the comparison that is "
        "the hardest for the claim.",
        "Intervals are over seeds of the network that is trained, paired by seed where both sides were measured and Welch's where one is "
        f"quoted (taken as {QUOTED_RUNS} runs); they do not cover another distillation.",
        "By the paper's numbers: the same test on what the paper prints. Where it prints a curve and no number there is nothing.",
    ]
    if lacking := asking.unasked(spec["claims"], spec["cells"]):
        said.append(f"Not asked, since the study lacks the dataset: claims about {', '.join(DATASET_TITLES[name] for name in lacking)}.")
    if not rows.empty:
        said.append(f"torch {', '.join(rows.torch.unique())}; device {', '.join(rows.device.unique())}.")
    if frame.verdict.eq(NOT_MEASURED).any():
        said.append("Not measured: a row or a figure that the test needs is not there.")
    return [*said, f"Study {spec['study']}, spec {digest(canonical(spec))}."]


def _title(spec: dict[str, Any]) -> str:
    return f"What the paper claims, and what study {spec['study']} says to it"


def _html(title: str, sheet: Sheet, notes: list[str]) -> str:
    head = f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n<style>{STYLE}</style>'
    parts = [f"<h1>{html.escape(title)}</h1>", web(sheet), *(f"<p>{html.escape(note)}</p>" for note in notes)]
    return "\n".join([head, *parts, "</html>"]) + "\n"


@command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m esp_core claims", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--spec", type=jobspec.read, required=True, help="JSON, as `python -m esp_core study CONFIG claims` prints it")
    parser.add_argument("--results", type=Path, required=True, help="folder of the study, results/STUDY")
    parser.add_argument("--published", type=Path, required=True, help="the paper's numbers, esp_core/reporting/published.csv")
    parser.add_argument("--out", type=Path, required=True, help="the claims, .csv; .md and .html are written beside it")
    args = parser.parse_args()
    run(args.spec, args.results, args.published, args.out)

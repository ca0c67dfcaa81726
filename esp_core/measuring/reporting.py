"""summary.md and docs/measured.md: what was measured, beside the paper's numbers, and "not measured" where nothing was."""

import csv
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

from esp_core.errors import UserError
from esp_core.methods import FULL
from esp_core.provenance import ROOT
from esp_core.reporting.layouts import DATASET_TITLES, METHOD_TITLES, NETWORK_TITLES
from esp_core.study import Study

LINE = "<!-- written by python -m esp_core.measure --report: edit only above this line -->"
NOT = "not measured"
DASH = "–"
Rows = list[dict[str, str]]


def page(study: Study, out: Path, before: str) -> str:
    """docs/measured.md, which is `before`, with what the folder `out` says below its line. Raises UserError where there is no such line."""
    head, line, _ = before.partition(LINE)
    if not line:
        raise UserError(f"--report: the page lacks the line {LINE}, below which it is written; put it in")
    parts = [head + line, *_texts(out), *_memory(study, out), *accuracies(study, out), *_choices(out)]
    return "\n\n".join(parts) + "\n"


def summary(study: Study, out: Path) -> str:
    """summary.md: the accuracies, then the tasks that failed."""
    parts = [f"# Measured: {study.name}", *accuracies(study, out), *_failures(out)]
    return "\n\n".join(parts) + "\n"


def accuracies(study: Study, out: Path) -> Iterator[str]:
    """A table a dataset and network: accuracy in percent, mean ± standard deviation over n seeds, the paper's beside it."""
    published = _published()
    yield (
        "## Accuracy\n\nPercent of the test images after the last epoch: mean ± standard deviation (n trainings of the network with\n"
        "different seeds, on one condensed set). Beside it what the paper prints for the same cell."
    )
    for dataset in study.datasets:
        for network in dict.fromkeys(row[3] for row in study.rows() if row[0] == dataset):
            yield _table(study, out, dataset, network, published)


def _table(study: Study, out: Path, dataset: str, network: str, published: dict[tuple[str, str, str, str], str]) -> str:
    asked = [row for row in study.rows() if row[0] == dataset and row[3] == network]
    ipcs = sorted({row[1] for row in asked if row[2] != FULL})
    titles = ["Method", *(title for ipc in ipcs for title in (f"IPC {ipc}", "paper"))]
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    machines: dict[str, None] = {}
    for method in dict.fromkeys(row[2] for row in asked):
        cells = [study.methods[method].get("title", METHOD_TITLES.get(method, method))]
        for ipc in ipcs:
            rows = _rows(out / "evaluated" / dataset / f"ipc-{ipc}" / method / f"{network}.csv")
            machines |= {f"{row['device']}, torch {row['torch']}": None for row in rows}
            ours = _number(rows) if (dataset, ipc, method, network) in asked else DASH
            cells += [ours, published.get((method, dataset, str(ipc), network), DASH)]
        lines.append(f"| {' | '.join(cells)} |")
    heading = f"### {DATASET_TITLES.get(dataset, dataset)}, {NETWORK_TITLES.get(network, network)}"
    experts = study.experts(dataset)["count"]
    note = f"{'; '.join(machines)}. Methods that use experts had {experts} (the paper's: 1000)." if machines else f"Nothing yet: {NOT}."
    return "\n".join([heading, "", note, "", *lines])


def _number(rows: Rows) -> str:
    values = [float(row["accuracy"]) for row in rows]
    if not values:
        return NOT
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread} ({len(values)})"


def _texts(out: Path) -> Iterator[str]:
    """What the tests and benchmarks printed: the tests' last line, the benchmarks' tables as they are."""
    for title, *names in (
        ("Correctness on the device", "agreement", "tests"),
        ("Experts", "benchmark-experts"),
        ("A step of distillation", "benchmark-steps"),
        ("Evaluation", "benchmark-evaluation"),
        ("Reading experts", "benchmark-reading"),
    ):
        found = [path for name in names for path in sorted((out / "texts").glob(f"{name}*.txt"))]
        yield f"## {title}" + ("" if found else f"\n\n{NOT.capitalize()}.")
        for path in found:
            text = path.read_text(encoding="utf-8").strip()
            if path.stem.startswith("tests"):
                yield f"`{path.stem}`: {text.splitlines()[-1].strip('= ')}"
            else:
                yield "\n".join(line.removeprefix("# ") if line.startswith("# ") else line for line in text.splitlines())


def _memory(study: Study, out: Path) -> Iterator[str]:
    yield "## Memory of distillation, as Figure 7"
    found = [figure for figure in study.figures.values() if figure.number == 7]
    rows = [row for figure in found for row in _rows(out / "figures" / f"{figure.name}.csv")]
    if not rows:
        yield f"{NOT.capitalize()}."
        return
    machines = dict.fromkeys(f"{row['device']}, torch {row['torch']}" for row in rows)
    columns = ("method", "ipc", "steps", "images", "bytes")
    lines = ["| method | IPC | steps | images | peak MB |", "| --- " * 5 + "|"]
    for row in rows:
        size = f"{float(row['bytes']) / 1e6:.1f}" if row["bytes"] else "does not fit"
        lines.append(f"| {' | '.join([*(row[column] for column in columns[:4]), size])} |")
    yield "\n".join([f"{'; '.join(machines)}. Bytes of all tensors alive; `:plain` keeps the graph of the complete set.", "", *lines])


def _choices(out: Path) -> Iterator[str]:
    yield "## Choices"
    found = sorted(out.glob("choices-*.csv"))
    if not found:
        yield f"{NOT.capitalize()}. What was measured on a processor is in [choices.md](choices.md)."
    for path in found:
        rows = _rows(path)
        yield f"`{path.name}`: {rows[0]['device']}, torch {rows[0]['torch']}." if rows else f"`{path.name}`: empty."
        lines = ["| cell | method | accuracy, % (n) |", "| --- | --- | --- |"]
        for key in dict.fromkeys((row["dataset"], row["ipc"], row["method"]) for row in rows):
            same = [row for row in rows if (row["dataset"], row["ipc"], row["method"]) == key]
            lines.append(f"| {key[0]}, IPC {key[1]} | {key[2]} | {_number(same)} |")
        yield "\n".join(lines)


def _failures(out: Path) -> Iterator[str]:
    rows = [row for row in _rows(out / "measured.csv") if row["status"] == "failed"]
    if rows:
        yield "## Failed\n\n" + "\n".join(f"- {row['name']}: {row['message']}" for row in rows)


def _published() -> dict[tuple[str, str, str, str], str]:
    """(method, dataset, IPC, network) -> mean ± std; where two tables differ the first one's, since Table 1 is of all cells."""
    found: dict[tuple[str, str, str, str], str] = {}
    for row in _rows(ROOT / "config" / "published.csv"):
        found.setdefault((row["method"], row["dataset"], row["ipc"], row["architecture"]), f"{row['mean']} ± {row['std']}")
    return found


def _rows(path: Path) -> Rows:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))

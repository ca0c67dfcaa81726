"""Rows of runs written by hand, and the tables that are made of them."""

import csv
from pathlib import Path

import pandas as pd

from esp_core.stages import evaluate, tables

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "esp_core/reporting/published.csv"
DM = [88.1, 89.4, 87.2, 90.6, 88.8]
ESP = [93.2, 93.9, 92.8, 94.4, 93.6]


def put(results, dataset, ipc, method, accuracies, network="convnet3", **changes):
    """The per-seed rows of one run, as the evaluation writes them; `changes` overwrite columns."""
    full = method == "full"
    cell = "full" if full else f"ipc-{ipc}/{method}"
    path = results / "evaluated" / dataset / cell / f"{network}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    row = dict.fromkeys(evaluate.COLUMNS, 1) | {
        **{"dataset": dataset, "ipc": 0 if full else ipc, "method": method, "network": network, "protocol": "dsa-1a2b3c4d"},
        **{"budget": 0 if full else 2560 * ipc, "budget_used": 0 if full else 2520 * ipc, "saturated": 0.0, "parameters": 320_010},
        **{"device": "cpu: x86_64", "torch": "2.13.0+cpu", **changes},
    }
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, evaluate.COLUMNS)
        writer.writeheader()
        writer.writerows({**row, "seed": seed, "accuracy": accuracy} for seed, accuracy in enumerate(accuracies))
    return path


def row_files(results):
    """The files of all runs that were put below `results`."""
    return sorted((results / "evaluated").rglob("*.csv"))


def spec(cells, methods, table=1, networks=("convnet3",), titles=None):
    lists = {"cells": [list(cell) for cell in cells], "methods": list(methods), "networks": list(networks)}
    return {"table": table, "study": "small", "titles": titles or {}, **lists}


def made(stage, results, the_spec, name="table"):
    """Run a stage; its CSV, the Markdown and the LaTeX."""
    out = results / f"tables/{name}.csv"
    stage.run(the_spec, row_files(results), PUBLISHED, out)
    return pd.read_csv(out), out.with_suffix(".md").read_text(), out.with_suffix(".tex").read_text()


def make(results, *arguments, **settings):
    return made(tables, results, spec(*arguments, **settings), f"table{settings.get('table', 1)}")


def entries(markdown, number=0):
    """The cells of the `number`-th table of a Markdown text: row by row, headings included, the rule left out."""
    blocks = [block.splitlines() for block in markdown.split("\n\n") if block.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in [blocks[number][0], *blocks[number][2:]]]

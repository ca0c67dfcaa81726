"""What the documents say is there, and the numbers in them are those that the rows give."""

import json
import pickle
import re
import subprocess
from pathlib import Path

import pytest
import torch

from esp_core.stages import claims, comparisons, tables
from esp_core.study.config import load
from esp_core.study.job_specs import spec

ROOT = Path(__file__).resolve().parents[1]
PAGES = [path for path in ROOT.rglob("*.md") if not {".venv", ".snakemake", "results"} & set(path.relative_to(ROOT).parts)]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_of_a_page_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#:\s]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_file_that_a_page_names_is_there(page):
    named = re.findall(r"\b(?:tests|esp_core|workflow|benchmarks|config|docs|released)/[\w./-]*\w", page.read_text(encoding="utf-8"))
    to_be_written = {"esp_core/objectives/moments.py"}  # by who follows docs/adding-a-method.md
    assert [path for path in named if not (ROOT / path).exists() and path not in to_be_written] == []


MEASURED = [
    *("cifar10 tables 1", "cifar10_ipc10 tables 1", "networks tables 2", "networks tables 3", "cifar10 tables 4"),
    *("cifar10 comparisons", "cifar10 claims"),
]


@pytest.mark.parametrize("line", MEASURED)
def test_the_published_tables_are_made_of_the_released_rows(line, tmp_path):
    """`make measured`, without writing; the README repeats Table 1 as it is."""
    study, *job = line.split()
    rows, out = ROOT.glob("released/*/evaluated/**/*.csv"), tmp_path / "table.csv"
    asked = json.loads(json.dumps(spec(load(ROOT / "config" / f"{study}.yaml"), *job)))
    reporting = ROOT / "esp_core" / "reporting"
    if job[0] == "claims":
        claims.run(asked, rows, [], reporting / "published.csv", reporting / "claims.yaml", out)
    else:
        {"tables": tables, "comparisons": comparisons}[job[0]].run(asked, rows, reporting / "published.csv", out)
    printed = out.with_suffix(".md").read_text(encoding="utf-8")
    accuracies = printed[printed.index("\n| ") :].strip().partition("\n\n")[0]
    pages = ["docs/measured.md", *(["README.md"] if line == "cifar10 tables 1" else [])]
    assert all(accuracies in (ROOT / page).read_text(encoding="utf-8") for page in pages)


def test_make_measured_says_what_this_test_runs():
    commands = subprocess.run(["make", "--dry-run", "measured"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall("'([a-z0-9_]+ (?:tables|comparisons|claims)[ 1-4]*)'", commands) == MEASURED
    assert "released/*/evaluated" in commands and "page.md docs/measured.md" in commands


def test_the_training_in_the_readme_runs_and_learns(monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (lines,) = [block for block in blocks if "DataLoader" in block]
    monkeypatch.chdir(ROOT)
    torch.manual_seed(0)
    exec(lines, found := {})
    data = found["data"].dataset(transform=found["data"].normalise)
    assert (len(data), data.classes[3], data.targets[-1]) == (800, "cat", 9)
    image, label = pickle.loads(pickle.dumps(data))[799]  # noqa: S301
    assert label == 9 and torch.equal(image, found["data"].normalise(found["data"].images)[799])
    assert found["loss"] < 2  # of ten classes, ln 10 at first

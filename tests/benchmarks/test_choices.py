"""The search of choices: one command measures what is missing and prints paired differences."""

import csv
import math
import statistics
import subprocess
import sys

import pandas as pd
from printed import ROOT

from benchmarks.choices import table

STUDY = """
study: tiny
device: cpu
datasets: {digits: {ipc: [1], options: {size: 16}, validation: 0.25}}
distill_network: {name: convnet3, width: 4}
methods:
  dm: {iterations: 2, real_batch: 4}
  longer: {base: dm, iterations: 4}
evaluation: {epochs: 2}
"""


def test_what_is_missing_is_measured_and_the_differences_are_paired(tmp_path):
    config, out = tmp_path / "tiny.yaml", tmp_path / "choices.csv"
    config.write_text(STUDY)
    data = tmp_path / "results/tiny/data/digits.h5"
    spec = '{"dataset":"digits","kind":"digits","options":{"size":16},"study_seed":0}'

    def run(module, *words):
        command = [sys.executable, "-m", module, *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("esp_core", "prepare", "--spec", spec, "--out", data)
    options = (config, "--against", "dm", "--out", out)
    run("benchmarks.choices", *options, "--seeds", 1)
    first = out.read_text()
    shown = run("benchmarks.choices", *options, "--seeds", 2)
    assert out.read_text().startswith(first)  # the first seed is not measured again
    with out.open() as file:
        found = {(row["method"], row["seed"]): float(row["accuracy"]) for row in csv.DictReader(file)}
    assert set(found) == {(m, s) for m in ("dm", "longer") for s in "01"}
    values = [found["longer", seed] for seed in "01"]
    assert f"| longer | {statistics.mean(values):.1f} ± {statistics.stdev(values):.1f} |" in shown
    assert run("benchmarks.choices", *options, "--seeds", 2) in shown  # nothing to measure, the same table


def test_the_interval_is_students_over_the_pairs():
    """Differences 1, 2, 3: mean 2, standard error 1 / sqrt 3, and 4.303 standard errors at two degrees of freedom."""
    accuracies = {"dm": (50.0, 60.0, 55.0), "esp": (51.0, 62.0, 58.0)}
    rows = [{"method": m, "seed": s, "accuracy": a, "seconds": 1.0} for m, values in accuracies.items() for s, a in enumerate(values)]
    line = table(pd.DataFrame(rows), "dm").splitlines()[-1]
    assert line == f"| esp | {171 / 3:.1f} ± {statistics.stdev(accuracies['esp']):.1f} | +2.0 ± {4.3027 / math.sqrt(3):.1f} | 3 | 1 |"

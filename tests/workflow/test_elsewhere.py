"""The workflow outside its checkout: from another folder, as a module of another workflow, and with its results moved."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
STUDY = {
    "study": "few",
    "device": "cpu",
    "datasets": {"digits": {"ipc": [1], "options": {"size": 8}}},
    "distill_network": {"name": "convnet3", "width": 4, "depth": 2},
    "methods": {"random": {}},
    "evaluation": {"seeds": 1, "epochs": 1},
}
MODULE = f"""
module condensation:
    snakefile: "{ROOT}/workflow/Snakefile"
    config: config
    prefix: "inner"
    pathvars:
        results="moved"

use rule * from condensation as esp_*
"""


@pytest.fixture
def empty(tmp_path):
    """A folder that holds a study alone."""
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(STUDY))
    return tmp_path


def snakemake(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "snakemake", "--configfile", "few.yaml", "--quiet", "host", "--cores", "2", *arguments]
    done = subprocess.run(words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def test_a_study_runs_in_a_folder_of_its_own(empty):
    code, said = snakemake(empty, "--snakefile", str(ROOT / "workflow" / "Snakefile"))
    assert code == 0, said
    assert "| Random | " in (empty / "results/few/tables/table1.md").read_text()
    assert {path.name for path in empty.iterdir()} == {"few.yaml", "results", ".snakemake"}


def test_another_workflow_uses_it_as_a_module_with_a_prefix_and_its_results_moved(empty):
    (empty / "Snakefile").write_text(MODULE)
    code, said = snakemake(empty, "esp_all")
    assert code == 0, said
    assert "| Random | " in (empty / "inner/moved/few/tables/table1.md").read_text()
    assert {path.name for path in empty.iterdir()} == {"few.yaml", "Snakefile", "inner", ".snakemake"}


def test_results_logs_and_benchmarks_are_moved_from_the_command_line(empty):
    moved = "pathvars={results: out, logs: 'other/{study}/logs'}"
    code, said = snakemake(empty, "--snakefile", str(ROOT / "workflow" / "Snakefile"), "--dry-run", "--printshellcmds", "--config", moved)
    assert code == 0, said
    assert "Job 1: " in said and ": Prepare digits\n" in said and ": Condense digits at IPC 1 by random\n" in said
    assert "--out out/few/data/digits.h5 > other/few/logs/prepare/digits.log" in said


@pytest.mark.parametrize(
    ("text", "told"),
    [("{seeds: 3}", '"seeds":3'), ("{seds: 3}", "evaluation.seds: unknown key; did you mean seeds?")],
    ids=["number", "typo"],
)
def test_a_second_file_changes_single_numbers_and_a_typo_in_it_is_one_line(empty, text, told):
    (empty / "more.yaml").write_text(f"evaluation: {text}")
    words = ["more.yaml", "--snakefile", str(ROOT / "workflow" / "Snakefile"), "--dry-run", "--printshellcmds"]
    _, said = snakemake(empty, "--configfile", "few.yaml", *words)
    assert told in said, said


def test_two_studies_run_side_by_side_in_one_folder(empty):
    (empty / "other.yaml").write_text(yaml.safe_dump(STUDY | {"study": "other"}))
    with ThreadPoolExecutor() as pool:
        words = ["--snakefile", str(ROOT / "workflow" / "Snakefile"), "--configfile"]
        both = [pool.submit(snakemake, empty, *words, f"{name}.yaml", "--", f"results/{name}/data/digits.h5") for name in ("few", "other")]
    assert [run.result()[0] for run in both] == [0, 0], both[0].result()[1] + both[1].result()[1]
    assert (empty / "results/few/data/digits.h5").read_bytes() == (empty / "results/other/data/digits.h5").read_bytes()


def test_a_relative_path_means_the_folder_of_the_study(empty, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    np.savez(
        empty / "mine.npz",
        images=np.zeros((20, 1, 8, 8), np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None, None],
        labels=np.arange(20) % 2,
    )
    (empty / "few.yaml").write_text(
        yaml.safe_dump(STUDY | {"datasets": {"mine": {"kind": "npz", "ipc": [1], "options": {"path": "mine.npz"}}}})
    )
    code, said = snakemake(
        empty, "--snakefile", str(ROOT / "workflow" / "Snakefile"), "--directory", str(elsewhere), "--", "results/few/data/mine.h5"
    )
    assert code == 0, said
    assert (elsewhere / "results/few/data/mine.h5").is_file()


def test_a_package_of_another_checkout_is_refused(empty):
    other = empty / "other" / "esp_core"
    other.mkdir(parents=True)
    for name in ("workflow", "config"):
        (empty / "other" / name).symlink_to(ROOT / name)
    code, said = snakemake(empty, "--snakefile", str(empty / "other" / "workflow" / "Snakefile"), "--dry-run")
    assert code == 1 and "Traceback" not in said
    assert f"esp_core is installed from {ROOT / 'esp_core'}, this workflow is that of {other}; run make in this checkout" in said

"""`esp study`: it lists jobs, prints the spec of one, and says in one line what it cannot read; it loads nothing heavy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_study import spec

from esp_core.runtime.errors import UserError
from esp_core.study import config
from esp_core.study.config import load

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def run(monkeypatch, capsys):
    """What the command prints about the demo."""

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["study", str(ROOT / "config" / "demo.yaml"), *arguments])
        config.main()
        return capsys.readouterr().out

    return command


def test_the_command_lists_jobs_and_prints_the_spec_of_one(run):
    jobs = run().splitlines()
    assert jobs[0] == "prepare digits" and "distill digits 1 esp" in jobs and "tables 1" in jobs
    printed = json.loads(run(*"distill digits 1 esp".split()))
    assert printed == spec(load(ROOT / "config" / "demo.yaml"), "distill", "digits", "1", "esp")


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        ("distil digits 1 esp", "did you mean distill digits 1 esp? "),
        ("distill digits 1", "did you mean distill digits 1"),
        ("experts digits 9", "did you mean experts digits 1? "),
        ("nonsense", "python -m esp_core study "),
    ],
)
def test_a_job_that_the_study_does_not_have_is_one_line(run, arguments, near):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments.split())
    assert str(stopped.value.code).startswith(f"error: {arguments}: no job of study demo; {near}") and "\n" not in stopped.value.code


@pytest.mark.parametrize(("text", "line"), [("[1", "no YAML"), ("- a", "a config is a mapping"), (None, "No such file or directory")])
def test_a_file_that_is_no_config_is_one_line(tmp_path, text, line):
    path = tmp_path / "study.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=line) as error:
        load(path)
    assert "\n" not in str(error.value)


def test_what_the_snakefile_loads_brings_no_heavy_package():
    heavy = "torch numpy pandas h5py scipy matplotlib kornia"
    loads = "import sys, esp_core.study.gpu, esp_core.study.job_specs, esp_core.study.config"
    code = f"{loads}; print(*set('{heavy}'.split()) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

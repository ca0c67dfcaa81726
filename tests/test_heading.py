"""What a job's log begins with, and how a job ends that finds no memory on its device."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from trajectories.expert_specs import shard_spec

from esp_core import errors
from esp_core.heading import heading
from esp_core.provenance import canonical, digest, source_digest
from esp_core.trajectories.shard import Shard

ROOT = Path(__file__).resolve().parent.parent
PREPARE = {"dataset": "digits", "kind": "digits", "options": {"size": 8}, "study_seed": 0}


def log_of(*arguments):
    """The log of a job, as a rule of the workflow writes it."""
    words = [json.dumps(word) if isinstance(word, dict) else str(word) for word in arguments]
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True).stdout


def test_a_log_begins_with_spec_code_seed_versions_and_device(tmp_path):
    data, shard = tmp_path / "digits.h5", tmp_path / "shard-000.h5"
    first = log_of("esp_core.prepare", "--spec", PREPARE, "--out", data).splitlines()[0]
    code = source_digest("esp_core.prepare")
    assert first == f"esp_core.prepare: spec {digest(canonical(PREPARE))}, code {code}, seed 0"
    spec = shard_spec(count=1)
    lines = log_of("esp_core.experts", "train", "--spec", spec, "--data", data, "--out", shard).splitlines()
    code = Shard(shard).header["code"]
    assert lines[0] == f"esp_core.experts: spec {digest(canonical(spec))}, code {code}, seed 3"
    for package in ("torch", "torchvision", "kornia", "numpy"):
        assert f", {package} {metadata.version(package)}" in lines[1]
    assert re.search(rf"; on {os.uname().nodename}, process \d+, \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{{4}}$", lines[1])
    assert lines[2].startswith("device cpu: ")


def test_the_code_that_snakemake_compares_is_the_one_in_the_log():
    text = heading("esp_core.evaluate", ["evaluate.py", "--spec", '{"study_seed": 5}', "--code", "0123456789abcdef"])
    assert text.startswith(f"esp_core.evaluate: spec {digest(canonical({'study_seed': 5}))}, code 0123456789abcdef, seed 5\n")


@pytest.mark.parametrize("arguments", [["--help"], ["--spec"], ["--spec", "{not JSON"], ["--spec", "[NaN]"]])
def test_a_command_line_without_a_spec_has_no_heading(arguments):
    assert heading("esp_core.evaluate", ["evaluate.py", *arguments]) is None


def test_no_memory_on_the_device_is_one_sentence(monkeypatch):
    @errors.command
    def main():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB.")

    monkeypatch.setattr(sys, "argv", ["main"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert str(ended.value) == "error: CUDA out of memory. Tried to allocate 2.00 GiB; " + errors._DEVICE


def test_other_failures_keep_their_traceback(monkeypatch):
    @errors.command
    def main():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(sys, "argv", ["main"])
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        main()

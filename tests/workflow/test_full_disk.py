"""A disk that is full, or cannot be written, while a stage runs: one line, nothing under the output's name, and afterwards it goes on."""

import csv
import subprocess
import sys

import h5py
import pytest
from safetensors.torch import load_file

from esp_core.study.code_digest import code
from esp_core.study.config import load
from esp_core.study.job_specs import spec
from esp_core.study.provenance import canonical

PASSING = ("seconds", "peak_memory_bytes")
STAGES = {
    "experts": (("digits", "0"), "experts/digits/shard-000.h5"),
    "distill": (("digits", "1", "esp"), "distilled/digits/ipc-1/esp.safetensors"),
    "evaluate": (("digits", "1", "esp", "convnet3"), "evaluated/digits/ipc-1/esp/convnet3.csv"),
}
FULL = "the disk is full: free some space, then run the same command again"
LOCKED = "the file system is read-only: choose a folder that can be written"


def content(path):
    """What two runs of the same job share."""
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return {name: file[name][:].tolist() for name in file if name != "seconds"}
    if path.suffix == ".csv":
        with path.open() as file:
            return [{k: v for k, v in row.items() if k not in PASSING} for row in csv.DictReader(file)]
    return {name: tensor.tolist() for name, tensor in load_file(path).items()}


@pytest.fixture(params=STAGES)
def job(request, finished, small_disk):
    """Run a stage of the study with its output on the small disk; the output, and what the workflow made of the same job."""
    stage, (arguments, place) = request.param, STAGES[request.param]
    study, results = load(finished.config_file), finished.folder / "results/tiny"
    inputs = {
        "experts": ["train"],
        "distill": ["run", "--experts", results / "experts/digits/manifest.json"],
        "evaluate": ["--condensed", results / "distilled/digits/ipc-1/esp.safetensors"],
    }
    out = small_disk / results.joinpath(place).name
    words = [*inputs[stage], "--spec", canonical(spec(study, stage, *arguments)), "--data", results / "data/digits.h5", "--out", out]
    words += [] if stage == "experts" else ["--code", code(study, stage, *arguments)]
    command = [sys.executable, "-m", "esp_core", stage, *map(str, words)]
    return lambda: subprocess.run(command, cwd=finished.folder, capture_output=True, text=True), out, results / place


def last_line(done):
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return done.stderr.splitlines()[-1]


def test_a_full_disk(job, small_disk):
    run, out, expected = job
    filler = small_disk / "filler"
    with pytest.raises(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    line = last_line(run())
    assert line.startswith("error: ") and line.endswith(f": {FULL}") and out.stem in line
    assert not out.exists()
    filler.unlink()
    done = run()
    assert done.returncode == 0, done.stderr
    assert content(out) == content(expected)
    assert sorted(path.name for path in small_disk.iterdir()) == [out.name]


def test_a_read_only_disk(job, small_disk):
    run, out, expected = job
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    line = last_line(run())
    assert line.startswith("error: ") and line.endswith(f": {LOCKED}") and out.stem in line
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    done = run()
    assert done.returncode == 0, done.stderr
    assert content(out) == content(expected)

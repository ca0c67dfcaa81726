"""A distillation that is killed ten times at random moments ends bit by bit as one that was left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file
from small import Experts, dataset, spec

from esp_core import datasets
from esp_core.distillation.condensed import load_condensed
from esp_core.stages import distill, losses
from esp_core.trajectories import reader

KILLS, STEPS = 10, 120
ROOT = Path(__file__).parents[2]


def test_ten_kills_change_nothing(tmp_path, monkeypatch):
    job = spec("esp", iterations=STEPS) | {"experts": {"total": 2}}
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    command = [sys.executable, Path(__file__).with_name("kill_distillation.py"), json.dumps(job), tmp_path / "killed.safetensors", KILLS, 5]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout)
    assert len(steps) == KILLS and steps == sorted(set(steps)) and steps[-1] < STEPS
    assert done.stderr.count("resuming at step") == KILLS
    monkeypatch.setattr(datasets, "load", lambda *_: dataset())
    monkeypatch.setattr(reader, "Trajectories", lambda *_: Experts())
    distill.run(job, tmp_path / "data.h5", tmp_path / "manifest.json", tmp_path / "whole.safetensors")
    whole, killed = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert all(whole[name].equal(killed[name]) for name in whole)
    told = [load_condensed(tmp_path / f"{name}.safetensors").metadata["losses"] for name in ("whole", "killed")]
    assert told[0] == told[1] and set(told[0]) == {"distribution", "projection"}
    assert [step for step, _ in losses.parsed(told[0]["distribution"])] == list(range(20, STEPS + 1, 20))
    assert not (tmp_path / "killed.safetensors.part").exists()

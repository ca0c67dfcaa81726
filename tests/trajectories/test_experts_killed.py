"""An interrupted shard: what the .part folder keeps, what it refuses, and that killing changes nothing.

The suite kills three times; `ESP_KILLS=20 pytest tests/trajectories/test_experts_killed.py` as often as you like.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trajectories.expert_specs import same, shard_spec

from esp_core.runtime.errors import UserError
from esp_core.trajectories.checkpoint import Record, unfinished
from esp_core.trajectories.train_shard import produce
from esp_core.trajectories.trainer import Trainer

KILLS = int(os.environ.get("ESP_KILLS", "3"))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_shard_killed_again_and_again_is_bit_identical(make, digits, tmp_path, momentum):
    longer = {"momentum": momentum, "epochs": 4 * KILLS, "batch": 200}
    whole = make(tmp_path / "whole.h5", **longer)
    command = [sys.executable, Path(__file__).with_name("kill_and_resume.py"), json.dumps(shard_spec(**longer)), digits]
    command += [tmp_path / "killed.h5", str(KILLS), "1"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        map(str, command), capture_output=True, text=True, timeout=250, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert len(counts) == KILLS
    assert counts == sorted(set(counts))  # every life went further than the one before
    assert done.stderr.count("resuming from killed.h5.part") == KILLS
    assert same(tmp_path / "killed.h5", whole)
    assert not (tmp_path / "killed.h5.part").exists()


@pytest.fixture
def stopped(digits, tmp_path, monkeypatch):
    """A shard that stops after four epochs, in its second expert; the epochs that are trained, as a list that goes on."""
    trained, original = [], Trainer.epoch

    def epoch(self, *names):
        if len(trained) == 4:
            trained.append("stopped")
            raise KeyboardInterrupt
        trained.append(names[3:])
        return original(self, *names)

    monkeypatch.setattr(Trainer, "epoch", epoch)
    with pytest.raises(KeyboardInterrupt):
        produce(shard_spec(), "code", digits, tmp_path / "shard.h5")
    assert not (tmp_path / "shard.h5").exists()
    return trained


EPOCHS = [(expert, "epoch", epoch) for expert in (0, 1) for epoch in (1, 2, 3)]


def test_no_finished_epoch_is_trained_twice(make, tmp_path, stopped):
    make(tmp_path / "shard.h5")
    assert stopped == [*EPOCHS[:4], "stopped", *EPOCHS[4:]]


@pytest.mark.parametrize("damage", [lambda whole: whole[:-100], lambda whole: whole[:-100] + bytes(100), lambda _: b""])
def test_a_damaged_epoch_is_trained_again(make, stored, tmp_path, stopped, damage):
    record = tmp_path / "shard.h5.part/expert-00000-epoch-002.safetensors"
    record.write_bytes(damage(record.read_bytes()))
    make(tmp_path / "shard.h5")
    assert stopped == [*EPOCHS[:4], "stopped", EPOCHS[1], *EPOCHS[4:]]
    assert same(tmp_path / "shard.h5", stored / "shard-000.h5")


def test_what_a_kill_left_of_the_shard_itself_is_cleared_away(make, tmp_path):
    left = tmp_path / ".shard-000-abc123.h5"
    other = tmp_path / ".shard-001-abc123.h5"
    left.touch()
    other.touch()
    make(tmp_path / "shard-000.h5", count=1)
    assert sorted(tmp_path.iterdir()) == [other, tmp_path / "shard-000.h5"]


@pytest.mark.parametrize("change", [{"lr": 0.01}, {"code": "other code"}, {"data": "other"}])
def test_a_part_of_another_spec_code_or_data_is_not_used(make, tmp_path, stopped, capfd, change):
    if "data" in change:
        job = tmp_path / "shard.h5.part/job.json"
        job.write_text(json.dumps(json.loads(job.read_text()) | change, sort_keys=True, separators=(",", ":")))
        change = {}
    make(tmp_path / "shard.h5", **change)
    assert "shard.h5.part belongs to another spec, code or data: beginning anew" in capfd.readouterr().out
    assert stopped[5:] == EPOCHS


def test_a_record_comes_back_to_the_bit(tmp_path):
    record = Record({"weights": torch.randn(5), "momentum": torch.randn(5)}, 0.1 + 0.2, 1 / 3)
    with unfinished(tmp_path / "shard.h5", {}) as part:
        part.write(7, 3, record)
        found = part.read(7, 3)
        assert part.read(7, 4) is None
    assert (found.loss, found.seconds) == (record.loss, record.seconds)
    assert all(torch.equal(found.state[name], tensor) for name, tensor in record.state.items())
    assert not any(tmp_path.iterdir())


def test_two_jobs_do_not_share_a_part(tmp_path):
    out = tmp_path / "shard.h5"
    with unfinished(out, {}), pytest.raises(UserError, match="another job is training this shard"), unfinished(out, {}):
        pass

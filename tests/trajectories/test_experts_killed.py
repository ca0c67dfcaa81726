"""An interrupted shard: what the .part file keeps, what it refuses, and that killing changes nothing.

The suite kills three times; `ESP_KILLS=20 pytest tests/trajectories/test_experts_killed.py` as often as you like.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from trajectories.expert_specs import shard_spec

from esp_core.runtime.errors import UserError
from esp_core.trajectories import producing
from esp_core.trajectories.partial import Part, Record
from esp_core.trajectories.producing import produce
from esp_core.trajectories.shard import Shard
from esp_core.trajectories.trainer import Trainer

KILLS = int(os.environ.get("ESP_KILLS", "3"))
HEADER = {"spec": {"lr": 0.1}}


def record(epoch, seed=0):
    return Record(7, epoch, 0.5 * epoch, 1.0, np.random.default_rng(seed + epoch).normal(size=(2, 5)).astype(np.float32))


def same(a, b):
    return (a.expert, a.epoch, a.loss, a.seconds) == (b.expert, b.epoch, b.loss, b.seconds) and np.array_equal(a.state, b.state)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_shard_killed_again_and_again_is_bit_identical(make, digits, tmp_path, momentum):
    longer = {"momentum": momentum, "epochs": 4 * KILLS, "batch": 200}
    whole = Shard(make(tmp_path / "whole.h5", **longer))
    command = [sys.executable, Path(__file__).with_name("kill_and_resume.py"), json.dumps(shard_spec(**longer)), digits]
    command += [tmp_path / "killed.h5", str(KILLS), "1"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        map(str, command), capture_output=True, text=True, timeout=250, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout)
    assert len(sizes) == KILLS
    assert sizes == sorted(set(sizes))  # every life went further than the one before
    assert done.stderr.count("resuming from killed.h5.part") == KILLS
    killed = Shard(tmp_path / "killed.h5")
    assert killed.digest == whole.digest
    assert [e.digest() for e in killed.experts] == [e.digest() for e in whole.experts]
    assert all(np.array_equal(a.columns, b.columns) for a, b in zip(killed.experts, whole.experts, strict=True))
    assert not (tmp_path / "killed.h5.part").exists()


def test_no_finished_epoch_is_trained_twice(digits, tmp_path, monkeypatch):
    trained, original = [], Trainer.epoch

    def epoch(self, *names):
        if len(trained) == 4:  # in the second expert
            trained.append("stopped")
            raise KeyboardInterrupt
        trained.append(names[3:])
        return original(self, *names)

    monkeypatch.setattr(Trainer, "epoch", epoch)
    with pytest.raises(KeyboardInterrupt):
        produce(shard_spec(), "code", digits, tmp_path / "shard.h5")
    assert not (tmp_path / "shard.h5").exists()
    produce(shard_spec(), "code", digits, tmp_path / "shard.h5")
    expected = [(expert, "epoch", epoch) for expert in (0, 1) for epoch in (1, 2, 3)]
    assert trained == [*expected[:4], "stopped", *expected[4:]]


def test_what_a_kill_left_of_the_shard_itself_is_cleared_away(make, tmp_path):
    left = tmp_path / ".shard-000-abc123.h5"
    other = tmp_path / ".shard-001-abc123.h5"
    left.touch()
    other.touch()
    make(tmp_path / "shard-000.h5", count=1)
    assert sorted(tmp_path.iterdir()) == [other, tmp_path / "shard-000.h5"]


@pytest.mark.parametrize("change", [{"lr": 0.01}, {"code": "other code"}, {"data": "other"}])
def test_a_part_of_another_spec_code_or_data_is_not_used(make, digits, tmp_path, monkeypatch, capfd, change):
    monkeypatch.setattr(producing.store, "compact", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "shard.h5")
    monkeypatch.undo()
    if "data" in change:
        path = tmp_path / "shard.h5.part"
        head, rest = path.read_bytes().split(b"\n", 1)
        path.write_bytes(json.dumps(json.loads(head) | change, sort_keys=True, separators=(",", ":")).encode() + b"\n" + rest)
        change = {}
    capfd.readouterr()
    changed = make(tmp_path / "shard.h5", **change)
    assert "shard.h5.part belongs to another spec, code or data: beginning anew" in capfd.readouterr().out
    fresh = make(tmp_path / "fresh.h5", **change)
    assert Shard(changed).digest == Shard(fresh).digest


def test_records_come_back_and_a_half_written_one_is_dropped(tmp_path):
    out = tmp_path / "shard.h5"
    with Part(out, HEADER, 2, 5) as part:
        for epoch in range(4):
            part.append(record(epoch))
    whole = part.path.read_bytes()
    size = (len(whole) - whole.index(b"\n") - 1) // 4
    for cut in (1, size // 2, size - 1):
        part.path.write_bytes(whole[:-cut])
        with Part(out, HEADER, 2, 5) as again:
            assert len(again) == 3
            assert all(same(again[epoch], record(epoch)) for epoch in range(3))
            again.append(record(3))
        assert part.path.read_bytes() == whole


def test_a_record_that_a_power_cut_left_as_zeros_is_dropped(tmp_path):
    out = tmp_path / "shard.h5"
    with Part(out, HEADER, 2, 5) as part:
        part.append(record(0))
        part.append(record(1))
    whole = part.path.read_bytes()
    part.path.write_bytes(whole[:-100] + bytes(100))
    with Part(out, HEADER, 2, 5) as again:
        assert len(again) == 1


def test_damage_inside_the_part_is_named(tmp_path):
    out = tmp_path / "shard.h5"
    with Part(out, HEADER, 2, 5) as part:
        for epoch in range(3):
            part.append(record(epoch))
    whole = bytearray(part.path.read_bytes())
    whole[whole.index(b"\n") + 50] ^= 1
    part.path.write_bytes(whole)
    with Part(out, HEADER, 2, 5) as again, pytest.raises(UserError, match=r"shard.h5.part: record 0 is damaged; delete the file"):
        again[0]


def test_two_jobs_do_not_share_a_part(tmp_path):
    with Part(tmp_path / "shard.h5", HEADER, 1, 5), pytest.raises(UserError, match="another job is training this shard"):
        Part(tmp_path / "shard.h5", HEADER, 1, 5)

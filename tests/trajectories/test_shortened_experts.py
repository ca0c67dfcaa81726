"""Experts are trained only as far as they are read: what is read is the same as if they had been trained to the end."""

import numpy as np
import pytest
import torch
from trajectories.expert_specs import content, shard_spec

from esp_core import datasets, networks
from esp_core.training import compile_policy, engine
from esp_core.trajectories.trainer import LONG, Recipe, Trainer

READ = 26


def same_snapshots(short, long):
    ours, theirs = content(short), content(long)
    assert ours["steps"].shape[1] == theirs["steps"].shape[1] == READ + 1
    np.testing.assert_array_equal(ours["digest"], theirs["digest"])
    np.testing.assert_array_equal(ours["loss"], theirs["loss"][:, :READ])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_shorter_training_begins_with_the_same_snapshots(make, tmp_path, momentum):
    settings = {"keep": READ + 1, "batch": 700, "momentum": momentum}
    short, long = (make(tmp_path / f"{epochs}.h5", epochs=epochs, **settings) for epochs in (READ, LONG))
    same_snapshots(short, long)


@pytest.fixture
def between(digits, monkeypatch):
    """Compiling pays for `LONG` epochs and not for `READ`; a stand-in compiles, whose sums differ from eager ones. Its calls."""
    spec, data = shard_spec(), datasets.load(digits)
    network = networks.build(**spec["network"], channels=1, size=8, classes=10)
    epoch = compile_policy.TRAINING * engine._operations(network, data.normalise(data.train.images[:1])) * len(data.train)
    worth = dict.fromkeys(compile_policy.TRAINING_WORTH_COMPILING, epoch * (READ + LONG) / 2)
    monkeypatch.setattr(compile_policy, "TRAINING_WORTH_COMPILING", worth)
    monkeypatch.setattr(engine, "missing_compiler", lambda device: "")
    calls = []

    def stand_in(code, **options):
        calls.append(options)
        return lambda images: 1.001 * code(images)

    monkeypatch.setattr(torch, "compile", stand_in)
    return calls


def test_whether_it_is_compiled_does_not_hang_on_how_far_it_is_trained(make, tmp_path, between):
    settings = {"keep": READ + 1, "batch": 1400, "count": 1}
    short, long = (make(tmp_path / f"{epochs}.h5", epochs=epochs, **settings) for epochs in (READ, LONG))
    assert len(between) == 2
    same_snapshots(short, long)


def test_the_plan_of_a_training_is_that_of_fifty_epochs(digits, between):
    data = datasets.load(digits)
    network = networks.build("convnet3", channels=1, size=8, classes=10, width=4, depth=2)
    plans = set()
    for epochs in (1, READ, LONG, 200):
        plans.add(Trainer(network, Recipe(epochs=epochs, batch=1400), data).plan)
    assert [plan.compiled for plan in plans] == [(1400,)]

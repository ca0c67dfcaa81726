"""Experts are trained only as far as they are read: what is read is the same as if they had been trained to the end."""

import h5py
import numpy as np
import pytest
import torch
from trajectories.expert_specs import shard_spec

from esp_core import datasets, engine, networks
from esp_core.trajectories.training import LONG, Recipe, prepared

READ = 26


def rows(path, *names):
    with h5py.File(path, "r") as file:
        return {name: file[name][:] for name in names}


def same_snapshots(short, long):
    ours, theirs = (rows(path, "columns", "scales", "loss") for path in (short, long))
    assert ours["columns"].shape[1] == theirs["columns"].shape[1] == READ + 1
    np.testing.assert_array_equal(ours["columns"], theirs["columns"])
    np.testing.assert_array_equal(ours["scales"], theirs["scales"])
    np.testing.assert_array_equal(ours["loss"], theirs["loss"][:, :READ])
    assert (np.diff(ours["columns"], axis=1) != 0).any(2).all()  # every epoch moved every expert


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
    epoch = engine.TRAINING * engine._operations(network, data.normalise(data.train.images[:1])) * len(data.train)
    monkeypatch.setattr(engine, "WORTH_COMPILING", epoch * (READ + LONG) / 2)
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
        recipe = Recipe(epochs=epochs, batch=1400)
        images = prepared(data, recipe)
        plans.add(engine.plan(network, images.sample(), images.work(recipe), "auto"))
    assert [plan.compiled for plan in plans] == [(1400,)]

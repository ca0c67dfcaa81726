"""Five seeds give five rows, the same again when run again, and the learning curve goes with each."""

import pytest
from small import NETWORK, dataset

from esp_core import datasets, evaluate

SPEC = {
    "study_seed": 0,
    "dataset": "small",
    "ipc": 0,
    "method": "full",
    "network": NETWORK,
    "seeds": 5,
    "device": "cpu",
    "protocol": {
        "name": "dsa",
        "epochs": 3,
        "lr": 0.05,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "batch": 10,
        "augment": "none",
        "milestones": [],
        "gamma": 1.0,
        "cutmix": 0.0,
    },
}


@pytest.fixture
def rows(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "load", lambda *_: dataset())
    return [evaluate.run(SPEC, tmp_path / "data.h5", None) for _ in range(2)]


def test_five_seeds_are_five_different_rows_and_the_same_when_run_again(rows):
    first, again = rows
    assert [row["seed"] for row in first] == list(range(5))
    assert len({row["curve"] for row in first}) == 5
    timing = {"seconds", "peak_memory_bytes"}
    assert [{k: v for k, v in row.items() if k not in timing} for row in first] == [
        {k: v for k, v in row.items() if k not in timing} for row in again
    ]


def test_the_curve_names_the_epoch_of_each_loss(rows):
    points = [point.split(":") for point in rows[0][0]["curve"].split()]
    assert [int(epoch) for epoch, _ in points] == [1, 2, 3]
    losses = [float(loss) for _, loss in points]
    assert losses[-1] < losses[0] < 2  # of three classes, from about ln 3 on


def test_a_long_curve_is_thinned_and_keeps_its_last_epoch():
    points = evaluate._curve([float(i) for i in range(1000)]).split()
    assert len(points) == evaluate.CURVE
    assert points[0] == "20:19" and points[-1] == "1000:999"

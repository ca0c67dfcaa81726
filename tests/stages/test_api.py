"""`condense` on arrays: the set fits the budget, is learnt from, and is made once."""

import numpy as np
import pytest
import torch
from small import CLASSES, NETWORK, SIZE, dataset

from esp_core import condense, networks
from esp_core.errors import UserError
from esp_core.training import Images, accuracy, protocol, train

TINY = {
    "network": NETWORK,
    "experts": 2,
    "training": {"epochs": 4, "lr": 0.1, "batch": 16},
    "iterations": 30,
    "real_batch": 8,
    "parametrisation": {"decoders": 2, "code_channels": 1, "width": 1, "upsamplings": 1},
    "teacher": {"length": 2, "steps": 2, "start_max": 1},
}


def arrays():
    data = dataset(per_class=30)
    return data, data.train.images.numpy(), data.train.labels.numpy()


def test_condensed_arrays_teach_a_network(tmp_path):
    data, images, labels = arrays()
    made = condense(images, labels, ipc=2, folder=tmp_path, device="cpu", **TINY)
    assert made.metadata["budget_used"] <= CLASSES * 2 * SIZE**2
    assert made.images.shape[1:] == (1, SIZE, SIZE) and sorted(set(made.labels.tolist())) == list(range(CLASSES))
    network = networks.build(**NETWORK, channels=1, size=SIZE, classes=CLASSES, seed=0)
    settings = dict(name="x", epochs=100, lr=0.05, momentum=0.9, weight_decay=0.0, batch=64, augment="none", milestones=[], gamma=1.0)
    train(network, Images(made.images, made.labels, data), protocol(settings), torch.Generator().manual_seed(0))
    assert accuracy(network, Images(data.train.images, data.train.labels, data)) > 60  # chance is 33


def test_a_second_call_makes_nothing_again(tmp_path):
    _, images, labels = arrays()
    condense(images, labels, ipc=2, folder=tmp_path, device="cpu", **TINY)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert before
    condense(images, labels, ipc=2, folder=tmp_path, device="cpu", **TINY)
    condense(images, labels, ipc=2, folder=tmp_path, device="cpu", **{**TINY, "iterations": 20})
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert {p: after[p] for p in before} == before
    assert len([p for p in after if p not in before]) == 1, "another recipe shares data and experts"


@pytest.mark.parametrize("bad", [np.zeros((4, 8, 8, 1), np.uint8), np.zeros((4, 1, 8, 8), np.float32)])
def test_other_arrays_are_refused_in_one_line(bad, tmp_path):
    with pytest.raises(UserError, match=r"give uint8 \(n, C, H, W\)"):
        condense(bad, np.zeros(4, int), folder=tmp_path)


@pytest.mark.parametrize("method", ["dsa", "idc", "kip", "mtt"])
def test_every_kind_of_method_condenses_arrays(method, tmp_path):
    _, images, labels = arrays()
    settings = {key: TINY[key] for key in ("network", "experts", "training", "real_batch")} | {"iterations": 2}
    if method == "mtt":
        settings |= {"teacher": {"length": 1, "start_max": 1}, "objectives": {"trajectory": {"steps": 2}}}
    made = condense(images, labels, method=method, ipc=2, folder=tmp_path, device="cpu", **settings)
    assert made.images.shape[1:] == (1, SIZE, SIZE) and made.metadata["budget_used"] <= made.metadata["budget"]
    assert ("learned" in made.metadata) == (method == "mtt")

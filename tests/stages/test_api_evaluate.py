"""`evaluate` from Python: sets and pairs are tested as the workflow does."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from small import CLASSES, NETWORK
from user_images import Pairs, arrays

from esp_core import condense, evaluate
from esp_core.datasets import store
from esp_core.datasets.source import Part, Source
from esp_core.runtime.errors import UserError
from esp_core.stages import evaluate as stage
from esp_core.study import job_specs
from esp_core.study.config import Study

PROTOCOL = {"protocol": "dsa", "seeds": 2, "epochs": 3, "precision": "float32"}


@pytest.fixture
def tested(tmp_path):
    """A set made of arrays, and the file of a prepared dataset whose training images these are."""
    data, images, labels = arrays()
    made = condense(images, labels, method="random", ipc=2, folder=tmp_path, device="cpu", network=NETWORK, flip=False, classes="abc")
    train, test = (Part("here", split.images.numpy(), split.labels.numpy()) for split in (data.train, data.test))
    store.write(tmp_path / "data.h5", "mine", Source(tuple("abc"), train, test, {}), {})
    return made, tmp_path / "data.h5", data.test.images.numpy(), data.test.labels.numpy()


def test_rows_from_python_are_those_of_the_workflow(tested, tmp_path):
    made, data, images, labels = tested
    study = {
        "study": "mine",
        "datasets": {"mine": {"kind": "npz", "ipc": [2], "flip": False, "options": {"path": "mine"}}},
        "methods": {"random": {}},
        "distill_network": NETWORK,
        "evaluation": PROTOCOL,
    }
    job = job_specs.spec(Study(study), "evaluate", "mine", "2", "random", "convnet3")
    (condensed,) = tmp_path.glob("ipc-2/*.safetensors")
    stage.finish(job, data, condensed, tmp_path / "rows.csv", device="cpu")
    expected = pd.read_csv(tmp_path / "rows.csv", keep_default_na=False).drop(columns=["seconds", "peak_memory_bytes"])
    for tests in ((images, labels), (images / np.float32(255), labels), (Pairs(images, labels, torch.from_numpy),), (data,)):
        rows = evaluate(made, *tests, network="convnet3", flip=False, device="cpu", **PROTOCOL)
        assert list(rows) == list(stage.COLUMNS)
        pd.testing.assert_frame_equal(rows[expected.columns], expected)
    pair = evaluate((made.images, made.labels), data, network=NETWORK, flip=False, device="cpu", **PROTOCOL)
    same = ["accuracy", "curve", "images", "budget", "budget_used", "protocol"]
    pd.testing.assert_frame_equal(pair[same], expected[same])
    one_hot = torch.eye(CLASSES)[made.labels]
    soft = evaluate((made.images, one_hot), data, network=NETWORK, flip=False, device="cpu", **PROTOCOL)
    assert soft.curve.tolist() == pair.curve.tolist() and (soft.budget_used - pair.budget_used == one_hot.numel()).all()


def test_a_pair_is_normalised_by_its_own_moments(tested):
    _, _, images, labels = tested
    rows = evaluate((images, labels), images, labels, network=NETWORK, device="cpu", **{**PROTOCOL, "epochs": 200, "augment": "none"})
    moved = evaluate(
        (images / 510 + 0.2, labels),
        images / 510 + 0.2,
        labels,
        network=NETWORK,
        device="cpu",
        **{**PROTOCOL, "epochs": 200, "augment": "none"},
    )
    assert rows.accuracy.min() > 60 and (rows.accuracy - moved.accuracy).abs().max() < 10  # chance is 33
    assert set(rows.method) == {"mine"} and set(rows.ipc) == {4}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"protocol": "dsaa"}, "protocol: 'dsaa' is unknown; did you mean dsa? allowed: dsa, idc"),
        ({"epoch": 3}, "epoch: unknown key; did you mean epochs? allowed:"),
        ({"seeds": 0}, "seeds: 0 is not allowed; allowed: at least 1"),
        ({"network": "vgg"}, "network: vgg is unknown"),
        ({"network": {"name": "convnet3", "widht": 3}}, "network.widht: unknown key; did you mean width?"),
        ({"test_labels": np.full(12, 3)}, "test_labels: image 0 has label 3, but there are 3 classes"),
        ({"test_labels": None}, "test_images: ndarray without labels; give labels too"),
        ({"test_images": np.zeros((12, 1, 9, 9), np.uint8)}, "condensed: its image shape is (1, 8, 8), that of the data mine (1, 9, 9)"),
        ({"test_images": np.full((12, 1, 8, 8), -1.5)}, "test_images: from -1.5 to -1.5; give uint8, or numbers in [0, 1]"),
        ({"test_images": "gone.h5"}, "gone.h5: no such prepared dataset"),
        ({"condensed": "gone.safetensors"}, "gone.safetensors: no such file"),
        ({"condensed": (np.full((3, 1, 8, 8), np.nan), np.arange(3))}, "images: some values are infinite or no numbers"),
        ({"condensed": (np.zeros((3, 1, 8, 8)), np.arange(3) * 2)}, "labels: class 1 has no image"),
    ],
)
def test_a_mistake_in_an_evaluation_is_one_line(tested, changes, line):
    made, _, images, labels = tested
    with pytest.raises(UserError, match=re.escape(line)) as error:
        evaluate(**{"condensed": made, "test_images": images, "test_labels": labels, "device": "cpu", **PROTOCOL, **changes})
    assert "\n" not in str(error.value)

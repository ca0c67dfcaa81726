"""The stage as a command: digits from end to end, bad specs, exit codes, and what its import costs."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from dataset_files import left_in
from sklearn.datasets import load_digits

from esp_core import datasets
from esp_core.datasets.catalogue import ENTRIES
from esp_core.study import provenance
from esp_core.study.provenance import canonical, source_digest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def upsampled(image):
    """8 x 8 with values 0 to 16 -> 16 x 16 bytes: bilinear between pixel centres, written out pixel by pixel."""
    result = np.zeros((16, 16))
    for row in range(16):
        for column in range(16):
            y, x = (min(max((i + 0.5) / 2 - 0.5, 0.0), 7.0) for i in (row, column))
            top, left = int(y), int(x)
            bottom, right = min(top + 1, 7), min(left + 1, 7)
            upper = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
            lower = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
            result[row, column] = (upper * (1 - (y - top)) + lower * (y - top)) * 255 / 16
    return result


def test_digits_are_scikit_learns(prepare):
    data = datasets.load(prepare("digits", size=16))
    assert (data.shape, len(data.train), len(data.test)) == ((1, 16, 16), 1400, 397)
    images, labels = load_digits(return_X_y=True)
    left = [(upsampled(image.reshape(8, 8)), int(label)) for image, label in zip(images[:40], labels[:40], strict=True)]
    everything = torch.cat([data.train.images, data.test.images])[:, 0].double().numpy()
    every_label = torch.cat([data.train.labels, data.test.labels])
    for image, label in left:
        differences = np.abs(everything - image).max((1, 2))
        assert differences.min() <= 0.5 and every_label[int(differences.argmin())] == label
    counts = np.bincount(labels)
    assert torch.bincount(every_label).tolist() == counts.tolist()
    assert np.abs(torch.bincount(data.test.labels).numpy() - counts * 397 / 1797).max() < 1
    entry = ENTRIES["digits"]
    assert (entry.train, entry.test, entry.images_per_class) == (1400, 397, int(torch.bincount(data.train.labels).min()))


def test_the_store_says_where_it_came_from_and_digits_are_the_same_for_every_study(prepare, tmp_path):
    first, second = (prepare("digits", out=tmp_path / f"{seed}.h5", seed=seed, size=8) for seed in (0, 1))
    assert datasets.load(first).digest == datasets.load(second).digest
    with h5py.File(first) as file:
        attributes = dict(file.attrs)
    assert attributes["spec"] == canonical({"dataset": "mine", "kind": "digits", "options": {"size": 8}, "study_seed": 0})
    assert attributes["code"] == source_digest("esp_core.stages.prepare", "esp_core.datasets.digits")
    assert json.loads(attributes["origin"]) == {"from": "sklearn.datasets.load_digits"}


def test_bad_specs(prepare, line_of, tmp_path):
    assert line_of(prepare, "digit").startswith("dataset: digit is unknown; did you mean digits? allowed: cifar10, ")
    assert line_of(prepare, "store").startswith("dataset: store is unknown; ")
    assert line_of(prepare, "digits", sise=8) == "dataset mine: options.sise: unknown key; did you mean size? allowed: size"
    assert line_of(prepare, "npz") == "dataset mine: options.path: missing; give the file"
    assert line_of(prepare, "digits", size=7) == "dataset mine: options.size: 7 is not allowed; allowed: at least 8"
    assert left_in(tmp_path) == []


def test_a_mistake_ends_the_process_with_one_line_and_exit_code_one(tmp_path):
    spec = {"dataset": "mine", "kind": "npz", "options": {"path": str(tmp_path / "none.npz")}, "study_seed": 0}
    result = run("-m", "esp_core", "prepare", "--spec", json.dumps(spec), "--out", str(tmp_path / "out.h5"))
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr == f"error: {tmp_path / 'none.npz'}: no such file; correct options.path of dataset mine\n"
    assert left_in(tmp_path) == []


HEAVY = {"torch", "numpy", "h5py", "scipy", "sklearn", "PIL", "torchvision"}


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import esp_core.datasets.catalogue, esp_core.stages.prepare, esp_core.stages.download", set()),
        ("import esp_core.datasets.cifar10, esp_core.datasets.store", {"numpy", "h5py"}),
        ("from esp_core import datasets; datasets.load", {"numpy", "h5py", "torch"}),
    ],
)
def test_what_is_not_needed_is_not_imported(statement, allowed):
    result = run("-c", f"{statement}; import sys; print(*{HEAVY - allowed} & set(sys.modules))")
    assert result.stdout.strip() == "", result.stderr


def test_prepare_does_not_depend_on_the_catalogue(monkeypatch):
    """Else a corrected URL would prepare every dataset, and so run everything, again."""
    before = source_digest("esp_core.stages.prepare", "esp_core.datasets.cifar10")
    real = provenance.module_file
    monkeypatch.setattr(provenance, "module_file", lambda name: None if name == "esp_core.datasets.catalogue" else real(name))
    provenance._parsed.cache_clear()
    after = source_digest("esp_core.stages.prepare", "esp_core.datasets.cifar10")
    provenance._parsed.cache_clear()
    assert after == before

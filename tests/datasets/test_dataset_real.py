"""The real files: figures that others have published for them. Skipped where the files are not at hand (see `real_data`)."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from esp_core import datasets
from esp_core.datasets import cifar100
from esp_core.datasets.catalogue import ENTRIES

ROOT = Path(__file__).resolve().parents[2]
# Mean and std of the training images, and first labels of training and test.
CIFAR = {
    "cifar10": ((0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784), (6, 3)),
    "cifar100": ((0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047), (19, 49)),
}


def per_class(split):
    return set(torch.bincount(split.labels).tolist())


@pytest.mark.parametrize("kind", CIFAR)
def test_cifar(kind, real, download, prepare):
    data = datasets.load(prepare(kind, download(kind, real(ENTRIES[kind].folder)), dataset=kind))
    entry, (mean, std, first) = ENTRIES[kind], CIFAR[kind]
    assert data.shape == entry.shape and len(data.classes) == entry.classes
    torch.testing.assert_close(data.normalisation.mean, torch.tensor(mean), rtol=0, atol=1e-8)
    torch.testing.assert_close(data.normalisation.std, torch.tensor(std), rtol=0, atol=1e-8)
    assert per_class(data.train) == {entry.images_per_class} and per_class(data.test) == {1000 if kind == "cifar10" else 100}
    assert (int(data.train.labels[0]), int(data.test.labels[0])) == first
    normal = data.normalise(data.train.images[:5000])
    assert normal.mean((0, 2, 3)).abs().max() < 0.05 and (normal.std((0, 2, 3)) - 1).abs().max() < 0.05


def test_each_coarse_class_of_cifar100_holds_the_five_classes_that_it_should(real):
    records = np.fromfile(real("cifar-100-binary") / "cifar-100-binary" / "train.bin", np.uint8).reshape(-1, 2 + 3 * 32 * 32)
    pairs = {(int(coarse), int(fine)) for coarse, fine in records[:, :2]}
    groups = [{cifar100.CLASSES[fine] for coarse, fine in pairs if coarse == number} for number in range(20)]
    assert len(pairs) == 100 and {len(group) for group in groups} == {5}
    assert {"maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"} in groups
    assert {"baby", "boy", "girl", "man", "woman"} in groups and {"orchid", "poppy", "rose", "sunflower", "tulip"} in groups


def test_the_tinyimagenet_sample(real, download, prepare):
    data = datasets.load(prepare("tinyimagenet", download("tinyimagenet", real("tiny-imagenet-200")), sample=True))
    assert data.shape == (3, 64, 64) and len(data.classes) == 200
    assert data.classes[:3] == ("goldfish", "European fire salamander", "bullfrog")
    assert per_class(data.train) == {20} and per_class(data.test) == {5}
    grey = (data.train.images == data.train.images[:, :1]).flatten(1).all(1)
    assert 0 < grey.sum() < 400
    assert data.train.images[grey].float().std((1, 2, 3)).min() > 0


def test_cifar10_from_a_mirror_costs_seconds_and_little_memory(real, tmp_path):
    """Both stages as Snakemake runs them: at most 10 s and 1 GB together, on two cores."""
    files, out = tmp_path / "files.json", tmp_path / "cifar10.h5"
    stages = (
        ("download", {"dataset": "cifar10", "kind": "cifar10", "mirror": str(real("cifar-10-batches-bin"))}, ["--out", files]),
        ("prepare", {"dataset": "cifar10", "kind": "cifar10", "options": {}, "study_seed": 0}, ["--files", files, "--out", out]),
    )
    started = time.monotonic()
    peaks = []
    for stage, spec, arguments in stages:
        # What the system reports of a finished child counts its parent's memory too, so the child reads its own at the end.
        watched = f"from esp_core.stages import {stage}; {stage}.main(); print(open('/proc/self/status').read())"
        command = [sys.executable, "-c", watched, "--spec", json.dumps(spec), *map(str, arguments)]
        status = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        peaks.append(1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]))
    assert time.monotonic() - started < 10 and max(peaks) < 1e9

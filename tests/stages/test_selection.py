"""Real images by class, and herding against a brute-force search."""

import pytest
import torch
from small import CLASSES, dataset

from esp_core.distillation.selection import Selector, herd
from esp_core.runtime.errors import UserError


def test_herding_takes_the_image_that_brings_the_mean_nearest():
    features = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).double()
    chosen = herd(features, 5).tolist()
    for k in range(5):
        best = min(
            (i for i in range(9) if i not in chosen[:k]),
            key=lambda i: float((features.mean(0) - features[[*chosen[:k], i]].mean(0)).norm()),
        )
        assert chosen[k] == best
    assert len(set(chosen)) == 5


def test_batches_hold_each_class_without_repeats():
    data = dataset()
    selector = Selector(data, torch.Generator().manual_seed(0))
    images, labels = selector.batch(5, torch.Generator().manual_seed(1))
    assert torch.bincount(labels).tolist() == [5] * CLASSES
    assert len(torch.unique(images.flatten(1), dim=0)) == len(images)
    everything = data.normalise(data.train.images)
    for image, label in zip(images, labels, strict=True):
        at = (everything == image).flatten(1).all(1).nonzero().squeeze(1)
        assert data.train.labels[at].tolist() == [label]


def test_more_than_there_are_names_the_class():
    with pytest.raises(UserError, match="class a: 13 images wanted, 12 there; lower the IPC"):
        Selector(dataset(), torch.Generator()).pick(0, 13, "random")


def test_herding_without_a_trained_network_says_so():
    with pytest.raises(UserError, match="herding: needs a trained network"):
        Selector(dataset(), torch.Generator()).pick(0, 2, "herding")

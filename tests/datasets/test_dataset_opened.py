"""A dataset in memory: normalising, holding out, counting; and stratified splits."""

import pytest
import torch
from torch.testing import assert_close

from esp_core.datasets import Dataset, Split
from esp_core.datasets.normalisation import Normalisation
from esp_core.datasets.splitting import stratified
from esp_core.runtime.errors import UserError


def dataset(counts=(30, 20, 10)):
    generator = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.full((n,), label) for label, n in enumerate(counts)])
    images = torch.randint(0, 256, (len(labels), 2, 5, 5), generator=generator).byte()
    split = Split(images, labels, labels // 2)
    return Dataset("mine", split, split, ("a", "b", "c"), Normalisation(torch.tensor([0.5, 0.25]), torch.tensor([0.2, 0.1])), "digest")


def test_normalise_takes_bytes_and_floats():
    data = dataset()
    images = data.train.images[:4]
    expected = torch.empty(4, 2, 5, 5, dtype=torch.float64)
    for channel, (mean, std) in enumerate(((0.5, 0.2), (0.25, 0.1))):
        expected[:, channel] = (images[:, channel].double() / 255 - mean) / std
    assert data.normalise(images).dtype == torch.float32
    assert_close(data.normalise(images), expected.float(), rtol=1e-5, atol=1e-6)
    assert_close(data.normalise(images.double() / 255), expected.float(), rtol=1e-5, atol=1e-6)


def test_normalise_passes_gradients():
    data = dataset()
    images = torch.full((1, 2, 5, 5), 0.5, requires_grad=True)
    data.normalise(images).sum().backward()
    assert_close(images.grad[0, :, 0, 0], torch.tensor([5.0, 10.0]))


def test_holdout_is_stratified_disjoint_and_complete():
    data = dataset()
    held = data.holdout(0.1, seed=3)
    assert torch.bincount(held.test.labels).tolist() == [3, 2, 1]
    assert torch.bincount(held.train.labels).tolist() == [27, 18, 9]

    def rows(split):
        return {tuple(image.flatten().tolist()) for image in split.images}

    assert rows(held.train).isdisjoint(rows(held.test))
    assert rows(held.train) | rows(held.test) == rows(data.train)
    assert torch.equal(held.test.coarse, held.test.labels // 2)
    assert held.digest != data.digest


def test_holdout_is_a_function_of_its_seed():
    data = dataset()
    first, again, other = (data.holdout(0.2, seed) for seed in (1, 1, 2))
    assert torch.equal(first.test.images, again.test.images) and first.digest == again.digest
    assert not torch.equal(first.test.images, other.test.images) and first.digest != other.digest


def test_a_class_with_fewer_images_than_the_ipc():
    data = dataset()
    data.check_ipc(10)
    with pytest.raises(UserError) as raised:
        data.check_ipc(11)
    assert str(raised.value) == "mine: class c has 10 training images, fewer than IPC 11; lower the IPC to 10 or add images"


@pytest.mark.parametrize("counts", [(178, 182, 177, 183, 181, 182, 181, 179, 174, 180), (3, 3, 3), (100, 2, 50)])
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 397 / 1797])
def test_shares_follow_the_fraction(counts, fraction):
    order = torch.randperm(sum(counts), generator=torch.Generator().manual_seed(5))
    labels = torch.cat([torch.full((n,), label) for label, n in enumerate(counts)])[order]
    kept, held = stratified(labels, fraction, "test")
    assert sorted(torch.cat([kept, held]).tolist()) == list(range(sum(counts)))
    assert kept.tolist() == sorted(kept.tolist())
    got = torch.bincount(labels[held], minlength=len(counts)).tolist()
    for count, share in zip(counts, got, strict=True):
        assert 1 <= share < count and abs(share - fraction * count) <= 1
    if min(counts) * fraction >= 1:
        assert sum(got) == round(fraction * sum(counts))


def test_a_class_of_one_cannot_be_split():
    with pytest.raises(UserError) as raised:
        stratified(torch.tensor([0, 0, 1]), 0.5, "test", classes=("cat", "dog"))
    assert str(raised.value) == "class dog: one image cannot be split into two parts; add images or give the test part yourself"


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 20])
def test_a_fraction_that_is_none(fraction):
    with pytest.raises(UserError, match="must lie between 0 and 1"):
        stratified(torch.tensor([0, 0, 1, 1]), fraction, "test")

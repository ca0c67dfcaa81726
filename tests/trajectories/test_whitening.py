import numpy as np
import pytest
import torch

from esp_core.trajectories import whitening


def test_equals_zca_written_out_in_float64():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 2, 3, 3), dtype=np.uint8)
    flat = images.reshape(60, -1) / 255.0
    centred = flat - flat.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / 59)
    expected = centred @ vectors @ np.diag(1 / np.sqrt(values + 0.1)) @ vectors.T
    whiten = whitening.fit(torch.from_numpy(images))
    got = whiten(torch.from_numpy(images))
    assert got.dtype == torch.float32
    assert got.numpy().reshape(60, -1) == pytest.approx(expected, abs=1e-5)


def test_new_images_are_whitened_by_the_training_images():
    images = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whiten = whitening.fit(images[:30])
    assert torch.allclose(whiten(images)[30:], whiten(images[30:]), atol=1e-6)

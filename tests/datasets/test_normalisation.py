"""ZCA whitening beside kornia's own module and the formula in float64, and the way back."""

import numpy as np
import pytest
import torch
from kornia.enhance import ZCAWhitening
from small import dataset, whitened
from torch.testing import assert_close

from esp_core.datasets import whitening
from esp_core.datasets.normalisation import Normalisation

DATA = whitened(dataset(per_class=40))
IMAGES = DATA.train.images


def test_it_is_kornias_own_fitted_to_the_training_images():
    theirs = ZCAWhitening(eps=0.1, compute_inv=True).fit(IMAGES[:100].float() / 255)
    ours = whitened(dataset(per_class=40), fitted_to=100).normalisation
    assert torch.equal(ours.normalise(IMAGES), theirs(IMAGES.float() / 255))
    assert_close(ours.denormalise(ours.normalise(IMAGES)), IMAGES / 255, rtol=0, atol=1e-6)
    assert_close(ours.zca.inverse, theirs.transform_inv, rtol=0, atol=1e-6)


def test_it_is_the_formula_in_float64():
    flat = IMAGES.numpy().reshape(len(IMAGES), -1) / 255.0
    centred = flat - flat.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / (len(flat) - 1))
    expected = centred @ vectors @ np.diag(1 / np.sqrt(values + 0.1)) @ vectors.T
    got = DATA.normalise(IMAGES)
    assert got.dtype == torch.float32 and DATA.normalisation.space == "zca"
    assert got.numpy().reshape(expected.shape) == pytest.approx(expected, abs=1e-5)


def test_rfads_is_the_formula_of_its_code_in_float64():
    scaled = IMAGES.numpy() / 255.0
    flat = ((scaled - scaled.mean((0, 2, 3), keepdims=True)) / scaled.std((0, 2, 3), keepdims=True, ddof=1)).reshape(len(scaled), -1)
    covariance = flat.T @ flat / len(flat)
    u, s, _ = np.linalg.svd(covariance + 0.1 * np.trace(covariance) / len(covariance) * np.eye(len(covariance)))
    stored = whitening.fit(IMAGES.numpy(), "zca_rfad")
    fitted = Normalisation.read([0.5], [0.2], stored)
    assert fitted.normalise(IMAGES).numpy().reshape(flat.shape) == pytest.approx(flat @ (u * s**-0.5 @ u.T), abs=1e-4)


def test_gradients_pass_through_it():
    images = (IMAGES[:2].double() / 255).requires_grad_()
    assert torch.autograd.gradcheck(DATA.normalisation.normalise, images)


@pytest.mark.parametrize("data", [dataset(), DATA])
def test_a_clamp_brings_images_back_to_what_can_be_shown(data):
    pixels = 1.5 * torch.randn(4, *data.shape, generator=torch.Generator().manual_seed(0)) + 0.5
    clamped = data.normalisation.clamp(data.normalise(pixels))
    assert_close(data.normalisation.denormalise(clamped), pixels.clamp(0, 1), rtol=0, atol=1e-5)

"""The walk's gradient against a plain double backward over the whole set, and against finite differences, in float64."""

import itertools
import math

import pytest
import torch
from outer_loss import CHOICES, KINDS, plain, setting, weighted

from esp_core import objectives
from esp_core.distillation.exact_gradient import backward, even, real_passes, real_statistics
from esp_core.distillation.passes import Passes


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("loss", ["bce", "ce"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choice", CHOICES)
def test_every_micro_batch_gives_the_plain_gradient(kind, choice, loss):
    synthetic, state, real, labels = setting(kind, loss)
    wanted = plain(choice, synthetic, state, real, labels)
    reference = torch.autograd.grad(wanted, list(synthetic.tensors.values()))
    wanted = float(wanted.detach())
    terms = weighted(choice)
    for micro_batch in (None, 1, 2, 5, synthetic.images - 1):
        statistics = real_statistics(real_passes(terms), real, labels, state, micro_batch)
        outcome = backward(Passes(terms), synthetic, statistics, state, micro_batch=micro_batch)
        assert float(outcome.total) == pytest.approx(wanted, rel=1e-10)
        for (name, tensor), gradient in zip(synthetic.tensors.items(), reference, strict=True):
            error = (tensor.grad - gradient).norm() / gradient.norm()
            assert error <= 1e-6, (micro_batch, name, float(error))
            tensor.grad = None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choice", ["distribution features", "projection", "direction"])
def test_gradient_is_a_finite_difference(kind, choice):
    synthetic, state, real, labels = setting(kind)
    terms = weighted(choice)
    statistics = real_statistics(real_passes(terms), real, labels, state)
    backward(Passes(terms), synthetic, statistics, state, micro_batch=4)
    generator = torch.Generator().manual_seed(1)
    for tensor in synthetic.tensors.values():
        way, gradient = torch.randn(tensor.shape, generator=generator), tensor.grad.clone()
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor += sign * 1e-6 * way
            values.append(float(plain(choice, synthetic, state, real, labels).detach()))
            with torch.no_grad():
                tensor -= sign * 1e-6 * way
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(float((gradient * way).sum()), rel=1e-4, abs=1e-7)


def test_a_statistic_without_a_loss_changes_no_gradient():
    synthetic, state, real, labels = setting("latent")
    terms = weighted("distribution features")
    inner = objectives.build("projection")
    statistics = real_statistics(real_passes(terms), real, labels, state)
    gradients = []
    for micro_batch in (None, 4):
        for also in ((), (inner,)):
            outcome = backward(Passes(terms, also), synthetic, statistics, state, micro_batch=micro_batch)
            assert ("gradient" in outcome.synthetic) == bool(also)
            gradients.append(torch.cat([t.grad.flatten() for t in synthetic.tensors.values()]))
            for tensor in synthetic.tensors.values():
                tensor.grad = None
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-10, atol=1e-12)
    assert state.theta.grad is None


def test_a_part_of_the_set_is_the_loss_of_that_part():
    synthetic, state, real, labels = setting("pixels")
    terms = weighted("distribution features")
    units = torch.tensor([0, 1, 5])
    backward(Passes(terms), synthetic, real_statistics(real_passes(terms), real, labels, state), state, units=units)
    touched = synthetic.tensors["pixels"].grad.abs().sum((1, 2, 3)) > 0
    assert touched.nonzero().squeeze(1).tolist() == units.tolist()


def test_parts_are_equal_where_that_takes_at_most_twice_as_many():
    for count, most in itertools.product(range(1, 50), range(1, 50)):
        fewest = math.ceil(count / most)
        sizes = [count // parts for parts in range(fewest, 2 * fewest + 1) if count % parts == 0]
        assert even(count, most) == max(sizes, default=most) <= max(most, 1)
    assert even(2560, 1451) == 1280
    assert even(2560, None) == 2560

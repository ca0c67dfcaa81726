"""The walk's gradient against a plain double backward over the whole set, and against finite differences, in float64."""

import pytest
import torch
import torch.nn.functional as F

from esp_core import networks, objectives, parametrisations
from esp_core.augment import dsa
from esp_core.networks.flat import FlatNetwork, flatten
from esp_core.objectives import State
from esp_core.objectives.walk import Weighted, backward, real_statistics
from esp_core.parametrisations import Task

CLASSES, SIZE = 3, 8
KINDS = {
    "pixels": {"kind": "pixels"},
    "formation": {"kind": "formation", "init": "noise"},
    "latent": {"kind": "latent", "decoders": 2, "code_channels": 2, "width": 2, "upsamplings": 2},
}
CHOICES = {
    "distribution features": {"distribution": {"output": "features"}},
    "distribution logits, sum": {"distribution": {"output": "logits", "reduction": "sum"}},
    "projection": {"projection": {}},
    "projection l2": {"projection": {"norm": "l2"}},
    "projection relative": {"projection": {"form": "relative"}},
    "direction": {"direction": {}},
    "esp": {"distribution": {"output": "features"}, "projection": {}},
}


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def setting(kind, loss="bce"):
    generator = torch.Generator().manual_seed(3)
    task = Task(CLASSES, 4, 1, SIZE, torch.tensor([0.4]), torch.tensor([0.3]))
    synthetic = parametrisations.build(task, **KINDS[kind])
    synthetic.initialise(generator, None)
    for tensor in synthetic.tensors.values():
        tensor.requires_grad_()
    network = networks.build("convnet3", 1, SIZE, CLASSES, seed=5, width=4, depth=2)
    theta = flatten(network)
    basis = torch.linalg.qr(torch.randn(len(theta), 3, generator=generator)).Q
    draw = dsa.draw("color_crop_cutout_flip_scale_rotate", CLASSES, generator)
    direction = torch.randn(len(theta), generator=generator)
    state = State(FlatNetwork(network), theta, CLASSES, draw, loss, basis, direction)
    real = torch.randn(15, 1, SIZE, SIZE, generator=generator)
    return synthetic, state, real, torch.arange(15) % CLASSES


def weighted(choice):
    weights = iter((0.7, 1.3))
    return [Weighted(name, objectives.build(name, **settings), next(weights)) for name, settings in CHOICES[choice].items()]


def plain(choice, synthetic, state, real, real_labels):
    """The outer loss written out: one graph over the whole set, G by double backward, class means by a loop."""
    images = synthetic.decode(torch.arange(synthetic.units))
    labels = synthetic.labels(torch.arange(synthetic.units))

    def augmented(x, y):
        return torch.cat([state.draw(x[i : i + 1], y[i : i + 1]) for i in range(len(x))])

    theta = state.theta.detach().requires_grad_()
    features, logits = state.network(theta, augmented(images, labels))
    if state.loss == "bce":
        p = logits.sigmoid()
        target = torch.eye(CLASSES)[labels]
        inner = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    else:
        inner = -logits.log_softmax(1)[torch.arange(len(labels)), labels].mean()
    gradient = torch.autograd.grad(inner, theta, create_graph=True)[0]
    with torch.no_grad():
        real_features, real_logits = state.network(theta, augmented(real, real_labels))
    total, weights = 0.0, iter((0.7, 1.3))
    for name, settings in CHOICES[choice].items():
        if name == "distribution":
            ours, theirs = (logits, real_logits) if settings["output"] == "logits" else (features, real_features)
            value = sum(((theirs[real_labels == c].mean(0) - ours[labels == c].mean(0)) ** 2).sum() for c in range(CLASSES))
            value = value if settings.get("reduction") == "sum" else value / CLASSES
        elif name == "projection":
            left = gradient - sum((e @ gradient) * e for e in state.basis.T)
            norm = (lambda v: (v * v).sum().sqrt()) if settings.get("norm") == "l2" else (lambda v: v.abs().sum())
            value = norm(left) / (norm(gradient) if settings.get("form") == "relative" else 1.0)
        else:
            value = 1 + F.cosine_similarity(gradient[None], state.direction[None])[0]
        total = total + next(weights) * value
    return total


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
        statistics = real_statistics(terms, real, labels, state, micro_batch)
        outcome = backward(terms, synthetic, statistics, state, micro_batch=micro_batch)
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
    statistics = real_statistics(terms, real, labels, state, None)
    backward(terms, synthetic, statistics, state, micro_batch=4)
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
    statistics = real_statistics(terms, real, labels, state, None)
    gradients = []
    for micro_batch in (None, 4):
        for also in ((), (inner,)):
            outcome = backward(terms, synthetic, statistics, state, micro_batch=micro_batch, also=also)
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
    backward(terms, synthetic, real_statistics(terms, real, labels, state, None), state, units=units)
    touched = synthetic.tensors["pixels"].grad.abs().sum((1, 2, 3)) > 0
    assert touched.nonzero().squeeze(1).tolist() == units.tolist()

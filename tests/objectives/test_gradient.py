"""Gradient matching against a loop over classes, layers and rows with plain double backward, in float64."""

import pytest
import torch
import torch.nn.functional as F

from esp_core import networks, objectives, parametrisations
from esp_core.augment import dsa
from esp_core.datasets.normalisation import Normalisation
from esp_core.distillation.exact_gradient import backward, real_passes, real_statistics
from esp_core.distillation.passes import Passes, Weighted
from esp_core.networks.flat import FlatNetwork, flatten
from esp_core.objectives import State
from esp_core.parametrisations import Task

CLASSES, SIZE = 3, 8
KINDS = {
    "pixels": {"kind": "pixels"},
    "formation": {"kind": "formation", "init": "noise"},
    "latent": {"kind": "latent", "decoders": 2, "code_channels": 2, "width": 2, "upsamplings": 1},
}
CHOICES = [("cosine", "weights"), ("cosine", "conv"), ("mse", "weights"), ("mse", "conv")]


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Setting:
    def __init__(self, kind="pixels", real_labels=None):
        generator = torch.Generator().manual_seed(3)
        task = Task(CLASSES, 3, 1, SIZE, Normalisation(torch.tensor([0.4]), torch.tensor([0.3])))
        self.synthetic = parametrisations.build(task, **KINDS[kind])
        self.synthetic.initialise(generator, None)
        for tensor in self.synthetic.tensors.values():
            tensor.requires_grad_()
        self.network = networks.build("convnet3", 1, SIZE, CLASSES, seed=5, width=3, depth=2)
        theta = flatten(self.network)
        draw = dsa.draw("color_crop_cutout_flip_scale_rotate", CLASSES, generator)
        basis = torch.linalg.qr(torch.randn(len(theta), 3, generator=generator)).Q
        self.state = State(FlatNetwork(self.network), theta, CLASSES, draw, "ce", basis)
        self.labels = torch.arange(11) % CLASSES if real_labels is None else torch.tensor(real_labels)
        self.real = torch.randn(len(self.labels), 1, SIZE, SIZE, generator=generator)

    def class_gradients(self, images, labels, graph):
        """For each class the gradients of its mean cross-entropy, one tensor a parameter."""
        images = torch.cat([self.state.draw(images[i : i + 1], labels[i : i + 1]) for i in range(len(labels))])
        weights = list(self.network.parameters())
        return {
            c: torch.autograd.grad(F.cross_entropy(self.network(images[labels == c]), labels[labels == c]), weights, create_graph=graph)
            for c in labels.unique().tolist()
        }

    def plain(self, metric, layers, units=None):
        """The loss written out, with a graph to the stored numbers."""
        units = torch.arange(self.synthetic.units) if units is None else units
        ours = self.class_gradients(self.synthetic.decode(units), self.synthetic.labels(units), graph=True)
        theirs = self.class_gradients(self.real, self.labels, graph=False)
        total = 0.0
        for c in set(ours) & set(theirs):
            for a, b in zip(ours[c], theirs[c], strict=True):
                if a.dim() == 1 or (layers == "conv" and a.dim() != 4):
                    continue
                if metric == "mse":
                    total = total + ((a - b) ** 2).sum()
                    continue
                for row, other in zip(a, b, strict=True):  # one output channel or unit
                    x, y = row.flatten(), other.flatten()
                    total = total + 1 - (x @ y) / (x.dot(x).sqrt() * y.dot(y).sqrt() + 1e-6)
        return total

    def walked(self, terms, micro_batch, units=None):
        for tensor in self.synthetic.tensors.values():
            tensor.grad = None
        real = real_statistics(real_passes(terms), self.real, self.labels, self.state, micro_batch)
        return float(backward(Passes(terms), self.synthetic, real, self.state, units=units, micro_batch=micro_batch).total)

    def agree(self, wanted, terms, units=None):
        """The walk's value and gradient equal those of `wanted` at every micro-batch."""
        reference = torch.autograd.grad(wanted, list(self.synthetic.tensors.values()))
        for micro_batch in (None, 1, 2, 4):
            assert self.walked(terms, micro_batch, units) == pytest.approx(float(wanted.detach()), rel=1e-10)
            for (name, tensor), gradient in zip(self.synthetic.tensors.items(), reference, strict=True):
                error = float((tensor.grad - gradient).norm() / gradient.norm())
                assert error <= 1e-6, (micro_batch, name, error)


def term(metric, layers, weight=0.7):
    return Weighted("gradient", objectives.build("gradient", metric=metric, layers=layers), weight)


EVERY = [("pixels", *choice) for choice in CHOICES] + [("formation", "cosine", "weights"), ("latent", "mse", "conv")]


@pytest.mark.parametrize(("kind", "metric", "layers"), EVERY)
def test_every_micro_batch_gives_the_plain_gradient(kind, metric, layers):
    setting = Setting(kind)
    setting.agree(0.7 * setting.plain(metric, layers), [term(metric, layers)])


@pytest.mark.parametrize(("metric", "layers"), CHOICES)
def test_only_classes_of_both_sides_count(metric, layers):
    setting = Setting(real_labels=[0, 0, 1, 1, 1])
    units = torch.tensor([1, 3, 4, 7, 8])
    setting.agree(0.7 * setting.plain(metric, layers, units), [term(metric, layers)], units)
    grads = setting.synthetic.tensors["pixels"].grad.flatten(1).norm(dim=1)
    assert grads.nonzero().squeeze(1).tolist() == [1, 3, 4], "class 2 has no real images"


@pytest.mark.parametrize(("metric", "layers"), CHOICES)
def test_gradient_is_a_finite_difference(metric, layers):
    setting = Setting()
    pixels = setting.synthetic.tensors["pixels"]
    setting.walked([term(metric, layers)], 2)
    gradient, way = pixels.grad.clone(), torch.randn(pixels.shape, generator=torch.Generator().manual_seed(1))
    values = []
    for sign in (1, -1, -1, 1):  # there and back again
        with torch.no_grad():
            pixels += sign * 1e-6 * way
        values.append(setting.walked([term(metric, layers)], None))
    assert (values[0] - values[2]) / 2e-6 == pytest.approx(float((gradient * way).sum()), rel=1e-4)


@pytest.mark.parametrize(("metric", "layers"), CHOICES)
def test_parameters_that_do_not_count_change_nothing(metric, layers):
    setting = Setting()
    objective = objectives.build("gradient", metric=metric, layers=layers)
    generator = torch.Generator().manual_seed(2)
    count = torch.full((CLASSES,), 2)
    ours, theirs = (torch.randn(CLASSES, len(setting.state.theta), generator=generator) for _ in range(2))

    def value(changed):
        sides = ({"class_gradient": g, "class_count": count} for g in (changed, theirs))
        return float(objective.loss(*sides, setting.state))

    start, moved = 0, []
    for name, p in setting.network.named_parameters():
        changed = ours.clone()
        changed[:, start : start + p.numel()] += torch.randn(CLASSES, p.numel(), generator=generator)
        start += p.numel()
        if value(changed) != value(ours):
            moved.append(name)
    assert moved == ["blocks.0.weight", "blocks.4.weight"] + (["classifier.weight"] if layers == "weights" else [])


def test_equal_sets_have_no_distance():
    setting = Setting(real_labels=[0, 0, 0, 1, 1, 1, 2, 2, 2])
    setting.real = setting.synthetic.decode(torch.arange(9)).detach()
    assert setting.walked([term("mse", "weights")], 2) == pytest.approx(0.0, abs=1e-20)
    norms = [
        g.flatten(1).norm(dim=1) for own in setting.class_gradients(setting.real, setting.labels, graph=False).values() for g in own[:5:4]
    ]
    left = sum(float((1e-6 / (n * n + 1e-6)).sum()) for n in norms)  # what epsilon leaves of a cosine of one
    assert setting.walked([term("cosine", "conv")], 2) == pytest.approx(0.7 * left, rel=1e-6)


def test_it_stands_beside_objectives_that_ask_for_the_whole_gradient():
    """With `projection`, whose statistic traces theta, and as a sum: both walks, real images included."""
    setting = Setting("latent")
    both = [term("cosine", "weights"), Weighted("projection", objectives.build("projection", norm="l2"), 1.3)]
    apart = []
    for alone in both:
        setting.walked([alone], None)
        apart.append(torch.cat([t.grad.flatten() for t in setting.synthetic.tensors.values()]))
    for micro_batch in (None, 2):
        setting.walked(both, micro_batch)
        together = torch.cat([t.grad.flatten() for t in setting.synthetic.tensors.values()])
        torch.testing.assert_close(together, apart[0] + apart[1], rtol=1e-9, atol=1e-12)

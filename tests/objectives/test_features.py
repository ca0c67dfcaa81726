"""CAFE's losses against loops over classes, stages and images, in float64, for several numbers of classes, sizes and depths."""

import pytest
import torch
from torch import nn

from esp_core import networks, objectives, parametrisations
from esp_core.augment import dsa
from esp_core.datasets.normalisation import Normalisation
from esp_core.distillation.exact_gradient import backward, real_passes, real_statistics
from esp_core.distillation.passes import Passes, Weighted
from esp_core.networks.flat import FlatNetwork, flatten
from esp_core.objectives import State
from esp_core.parametrisations import Task

SHAPES = [(3, 8, 2), (5, 16, 3), (2, 8, 1)]  # classes, size, depth
KINDS = {"pixels": {"kind": "pixels"}, "latent": {"kind": "latent", "decoders": 2, "code_channels": 1, "width": 2, "upsamplings": 1}}
SETTINGS = {"deep": 0.9, "shallow": 0.2, "centre": 1.1, "discrimination": 0.05}


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Setting:
    def __init__(self, shape=SHAPES[0], kind="pixels", real_labels=None):
        classes, size, depth = shape
        generator = torch.Generator().manual_seed(4)
        task = Task(classes, 3, 1, size, Normalisation(torch.tensor([0.4]), torch.tensor([0.3])))
        self.synthetic = parametrisations.build(task, **KINDS[kind])
        self.synthetic.initialise(generator, None)
        for tensor in self.synthetic.tensors.values():
            tensor.requires_grad_()
        self.network = networks.build("convnet3", 1, size, classes, seed=5, width=3, depth=depth)
        draw = dsa.draw("color_crop_cutout_flip_scale_rotate", classes, generator)
        self.state = State(FlatNetwork(self.network), flatten(self.network), classes, draw, "ce")
        self.labels = torch.arange(4 * classes - 1) % classes if real_labels is None else torch.tensor(real_labels)
        self.real = torch.randn(len(self.labels), 1, size, size, generator=generator)

    def seen(self, images, labels):
        """What each ReLU gives for the augmented images, and last what the classifier gets."""
        images = torch.cat([self.state.draw(images[i : i + 1], labels[i : i + 1]) for i in range(len(labels))])
        outputs = []
        relus = [m for m in self.network.modules() if isinstance(m, nn.ReLU)]
        hooks = [m.register_forward_hook(lambda module, given, out: outputs.append(out)) for m in relus]
        hooks.append(self.network.classifier.register_forward_pre_hook(lambda module, given: outputs.append(given[0])))
        self.network(images)
        for hook in hooks:
            hook.remove()
        return outputs

    def plain(self, deep, shallow, centre, discrimination, units=None):
        units = torch.arange(self.synthetic.units) if units is None else units
        own = self.synthetic.labels(units)
        ours = self.seen(self.synthetic.decode(units), own)
        with torch.no_grad():
            theirs = self.seen(self.real, self.labels)
        classes = sorted(set(own.tolist()) & set(self.labels.tolist()))
        weights = [*[shallow] * (len(ours) - 2), deep, deep]
        weights[-1] += centre
        total = 0.0
        for weight, a, b in zip(weights, ours, theirs, strict=True):
            for c in classes:
                total = total + weight * ((a[own == c].mean(0) - b[self.labels == c].mean(0)) ** 2).sum()
        centres = [ours[-1][own == c].mean(0) for c in classes]
        for feature, label in zip(theirs[-1], self.labels.tolist(), strict=True):
            if label in classes:
                products = torch.stack([(feature * mean).sum() for mean in centres])
                total = total + discrimination * (products.exp().sum().log() - products[classes.index(label)])
        return total

    def walked(self, settings, micro_batch, units=None):
        for tensor in self.synthetic.tensors.values():
            tensor.grad = None
        terms = [Weighted("features", objectives.build("features", **settings), 0.7)]
        real = real_statistics(real_passes(terms), self.real, self.labels, self.state, micro_batch)
        return float(backward(Passes(terms), self.synthetic, real, self.state, units=units, micro_batch=micro_batch).total)

    def agree(self, settings, units=None):
        wanted = 0.7 * self.plain(**settings, units=units)
        reference = torch.autograd.grad(wanted, list(self.synthetic.tensors.values()))
        for micro_batch in (None, 1, 2, 5):
            assert self.walked(settings, micro_batch, units) == pytest.approx(float(wanted.detach()), rel=1e-10)
            for (name, tensor), gradient in zip(self.synthetic.tensors.items(), reference, strict=True):
                error = float((tensor.grad - gradient).norm() / gradient.norm())
                assert error <= 1e-6, (micro_batch, name, error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_micro_batch_gives_the_plain_gradient(shape, kind):
    Setting(shape, kind).agree(SETTINGS)


@pytest.mark.parametrize("only", SETTINGS)
def test_every_part_alone_is_the_plain_one(only):
    Setting(SHAPES[1]).agree({name: value if name == only else 0.0 for name, value in SETTINGS.items()})


def test_only_classes_of_both_sides_count():
    setting = Setting(SHAPES[1], real_labels=[0, 1, 3, 4, 1, 3, 4, 0])
    setting.agree(SETTINGS, torch.tensor([3, 5, 6, 9, 10, 11, 14]))
    grads = setting.synthetic.tensors["pixels"].grad.flatten(1).norm(dim=1)
    assert grads.nonzero().squeeze(1).tolist() == [3, 5, 9, 10, 11, 14], "classes 1, 3 and 4 are in both"


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_a_finite_difference(shape):
    setting = Setting(shape)
    pixels = setting.synthetic.tensors["pixels"]
    setting.walked(SETTINGS, 2)
    gradient, way = pixels.grad.clone(), torch.randn(pixels.shape, generator=torch.Generator().manual_seed(1))
    values = []
    for sign in (1, -1, -1, 1):  # there and back again
        with torch.no_grad():
            pixels += sign * 1e-6 * way
        values.append(setting.walked(SETTINGS, None))
    assert (values[0] - values[2]) / 2e-6 == pytest.approx(float((gradient * way).sum()), rel=1e-4)

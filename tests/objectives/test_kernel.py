"""Kernel ridge regression against its closed form in numpy, on features of the networks by hand, in float64; whole runs."""

import numpy as np
import pytest
import torch
from small import LATENT, NETWORK, Experts, dataset

from esp_core import networks, objectives, parametrisations
from esp_core.augment import dsa
from esp_core.datasets.normalisation import Normalisation
from esp_core.distillation.outer_loop import Distillation
from esp_core.networks.flat import FlatNetwork, flatten
from esp_core.objectives import OuterStep, State
from esp_core.parametrisations import Task
from esp_core.runtime.errors import UserError
from esp_core.runtime.live_memory import peak
from esp_core.study import methods
from esp_core.training.traced import Traced

CLASSES, SIZE = 3, 8
KINDS = {
    "pixels": {"kind": "pixels"},
    "latent": {"kind": "latent", "decoders": 2, "code_channels": 2, "width": 2, "upsamplings": 2},
}


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def outer_step(kind="pixels", count=3, augment="none", ipc=4):
    """A step with `count` networks side by side, or with theta alone for None, and the modules behind them."""
    generator = torch.Generator().manual_seed(3)
    task = Task(CLASSES, ipc, 1, SIZE, Normalisation(torch.tensor([0.4]), torch.tensor([0.3])))
    synthetic = parametrisations.build(task, **KINDS[kind])
    synthetic.initialise(generator, None)
    for tensor in synthetic.tensors.values():
        tensor.requires_grad_()
    modules = [networks.build("convnet3", 1, SIZE, CLASSES, seed=seed, width=4, depth=2) for seed in range(count or 1)]
    ensemble = torch.stack([flatten(module) for module in modules])
    state = State(FlatNetwork(modules[0]), ensemble[0], CLASSES, dsa.draw("none", CLASSES, generator), ensemble=ensemble if count else None)
    real, labels = torch.randn(20, 1, SIZE, SIZE, generator=generator), torch.arange(20) % CLASSES
    return OuterStep(synthetic, torch.arange(synthetic.units), state, real, labels, augment, generator), modules


def taught(of, weight=1.0, **settings):
    """Value and gradients, by name, of one backward pass."""
    for tensor in of.synthetic.tensors.values():
        tensor.grad = None
    value = objectives.build("kernel", **settings).backward(of, weight)
    assert not value.requires_grad
    return float(value), {name: t.grad.clone() for name, t in of.synthetic.tensors.items()}


def closed_form(of, modules, ridge):
    """Ridge regression on labels in numpy: the kernel by a loop over networks."""

    def seen(images):
        with torch.no_grad():
            return [module.features(images).flatten(1).numpy() for module in modules]

    own, real = seen(of.synthetic.decode(of.units)), seen(of.images)
    n, width = own[0].shape
    support = sum(ours @ ours.T for ours in own) / width / len(modules)
    query = sum(theirs @ ours.T for ours, theirs in zip(own, real, strict=True)) / width / len(modules)
    centred = np.eye(CLASSES) - 1 / CLASSES
    inverse = np.linalg.inv(support + ridge * np.trace(support) / n * np.eye(n))
    predicted = query @ inverse @ centred[of.synthetic.labels(of.units).numpy()]
    return 0.5 * ((predicted - centred[of.labels.numpy()]) ** 2).mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [None, 1, 3])
@pytest.mark.parametrize("ridge", [0.001, 0.1])
def test_value_is_the_closed_form(kind, count, ridge):
    of, modules = outer_step(kind, count)
    assert taught(of, ridge=ridge)[0] == pytest.approx(closed_form(of, modules, ridge), rel=1e-8)


def test_compiled_features_of_real_images_give_the_closed_form(written, monkeypatch):
    monkeypatch.setattr("esp_core.objectives.kernel.PART", 8)  # twice eight images compiled, and the last four
    of, modules = outer_step()
    of.traced = Traced()
    assert taught(of, ridge=0.1)[0] == pytest.approx(closed_form(of, modules, 0.1), rel=1e-8)
    assert of.traced.names == ["features"] and len(written) == 1


@pytest.mark.parametrize("augment", ["none", "color_crop_scale_rotate"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_a_finite_difference(kind, augment):
    of, modules = outer_step(kind, augment=augment)
    drawn = of.generator.get_state()

    def again():
        of.generator.set_state(drawn)
        return taught(of, weight=0.7, ridge=0.01)

    _, gradients = again()
    for name, tensor in of.synthetic.tensors.items():
        way = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))
        values = []
        for sign in (1, -2, 1):
            with torch.no_grad():
                tensor += sign * 1e-6 * way
            values.append(again()[0] if augment != "none" else closed_form(of, modules, 0.01))
        assert 0.7 * (values[0] - values[1]) / 2e-6 == pytest.approx(float((gradients[name] * way).sum()), rel=1e-4, abs=1e-8), name


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_the_set_give_the_same_gradient_and_take_less_memory(kind, monkeypatch):
    of, _ = outer_step(kind)
    value, gradients = taught(of, ridge=0.01)
    all_at_once = peak(lambda: taught(of, ridge=0.01))
    monkeypatch.setattr("esp_core.objectives.kernel.PART", 2)
    parts_value, parts = taught(of, ridge=0.01)
    assert parts_value == pytest.approx(value, rel=1e-12)
    for name, gradient in gradients.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-8, atol=1e-12)
    assert peak(lambda: taught(of, ridge=0.01)) < 0.7 * all_at_once


def test_every_image_is_augmented_alike_so_that_no_class_shows():
    """Real images of one kind in every class, and synthetic ones: a draw of each class's own would tell them apart."""
    of, _ = outer_step(augment="color")
    with torch.no_grad():
        of.images.copy_(of.images[:1].expand_as(of.images))
        of.synthetic.tensors["pixels"].copy_(of.images[: of.synthetic.units])
    chance = 0.5 * ((torch.eye(CLASSES)[of.labels] - 1 / CLASSES) ** 2).mean()
    assert taught(of, ridge=0.001)[0] == pytest.approx(float(chance), rel=1e-6)


RUNS = {
    "kip": {},
    "kip with codes": {"parametrisation": LATENT, "optimiser": {"lr_codes": 0.1, "lr_decoders": 0.01}},
    "kip with distribution": {"objectives": {"distribution": {}}, "augment": "color_crop"},
    "kip compiled": {"compile": "always"},
    "kip on experts": {"teacher": {"kind": "experts", "length": 2, "steps": 2, "start_max": 2}},
}


def job(name):
    recipe = methods.recipe("run", "small", 2, custom={"run": {"base": "kip", "iterations": 3, "real_batch": 4, **RUNS[name]}})
    spec = {"study_seed": 0, "dataset": "small", "ipc": 2, "method": name, "network": NETWORK, "recipe": recipe}
    return Distillation(spec, dataset(), Experts(), torch.device("cpu"))


def test_what_has_to_be_compiled_and_cannot_be_is_told(monkeypatch):
    monkeypatch.setattr("esp_core.distillation.outer_loop.missing_compiler", lambda device: "there is no compiler g++")
    with pytest.raises(UserError, match=r"^small ipc 2 kip compiled: compile: always, but there is no compiler g\+\+; use auto$"):
        job("kip compiled")


@pytest.mark.parametrize("name", RUNS)
def test_a_run_resumes_bit_identically(name, written):
    torch.set_default_dtype(torch.float32)
    whole, saved = job(name), []
    before = {key: t.detach().clone() for key, t in whole.synthetic.tensors.items()}

    def each(job, outcome):
        saved.append({key: t.clone() for key, t in job.checkpoint().items()})
        assert torch.isfinite(outcome.values["kernel"])

    whole.run(each)
    assert not any(torch.equal(before[key], tensor) for key, tensor in whole.synthetic.tensors.items())
    for stop in (1, 2):
        resumed = job(name)
        resumed.resume(saved[stop - 1])
        resumed.run(lambda job, outcome: None)
        after = resumed.checkpoint()
        assert after.keys() == saved[-1].keys()
        for key, tensor in saved[-1].items():
            assert torch.equal(after[key], tensor), (stop, key)
    assert whole.compiled == ["features"] * ("compiled" in name)

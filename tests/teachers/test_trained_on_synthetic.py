"""Networks that learn from the synthetic images: against torch's own SGD, their loops and bounds, and resuming bit by bit."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from small import CLASSES, NETWORK, SIZE, Experts, dataset, spec

from esp_core import networks
from esp_core.augment import dsa
from esp_core.distillation.outer_loop import Distillation
from esp_core.networks.flat import flatten
from esp_core.runtime import seeds
from esp_core.teachers.learning import Learner

CPU = torch.device("cpu")
DYNAMIC = {"loops": "dynamic", "window": 3, "query": 5}


def job(iterations=7, objectives=None, augment="color_crop_cutout", compile_="auto", **teacher):
    teacher = {"kind": "trained_on_synthetic", "outer_loop": 3, "inner_loop": 2, **teacher}
    changes = {"teacher": teacher, "objectives": objectives or {"gradient": {}}, "iterations": iterations, "augment": augment}
    return Distillation(spec("dm", **changes, compile=compile_), dataset(), Experts(), CPU)


def module(made, number):
    """The network `number` of a distillation, before it learns."""
    return networks.build(**NETWORK, channels=1, size=SIZE, classes=CLASSES, seed=seeds.derive(*made.names, "network", number))


@pytest.mark.parametrize(("batch", "compile_"), [(256, "never"), (4, "never"), (4, "always")])
def test_theta_is_that_of_plain_sgd_on_the_synthetic_images(batch, compile_, written):
    made, reference, wanted = job(batch=batch, lr=0.1, compile_=compile_), None, []

    def each(job, outcome):
        nonlocal reference
        step, images = job.step - 1, job.synthetic.tensors["pixels"].detach()
        if step % 3 == 0:
            reference = module(job, step // 3)
        torch.testing.assert_close(flatten(reference), thetas[step])
        if step % 3 == 2:
            return
        optimiser = torch.optim.SGD(reference.parameters(), lr=0.1)
        generator = seeds.generator(*job.names, "inner", step)
        for _ in range(2):
            for index in torch.randperm(2 * CLASSES, generator=generator).split(batch):
                seen = dsa.draw("color_crop_cutout", len(index), generator, same_operation=True)(images[index])
                optimiser.zero_grad()
                F.cross_entropy(reference(seen), torch.arange(CLASSES).repeat_interleave(2)[index]).backward()
                optimiser.step()
        wanted.append((flatten(reference), job.teacher.learner.theta))

    thetas, state = [], made.teacher.state
    made.teacher.state = lambda step, draw: thetas.append(state(step, draw).theta.clone()) or state(step, draw)
    made.run(each)
    assert len(wanted) == 5
    for ours, theirs in wanted:
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-6)


def test_a_network_learns_from_images_and_not_the_images_from_it():
    made = job(iterations=1)
    made.run(lambda job, outcome: None)
    assert not made.teacher.learner.theta.requires_grad
    before = made.synthetic.tensors["pixels"].grad.clone()
    made.teacher._learn(made.teacher._plan(torch.Generator()))
    assert torch.equal(made.synthetic.tensors["pixels"].grad, before)


def test_the_loss_that_is_matched_is_cross_entropy():
    assert job().teacher.state(0, dsa.Chain(())).loss == "ce"


def counted(monkeypatch, accuracies, **teacher):
    """Steps that each network served and epochs of each training, where the network's accuracies are as told."""
    epochs, told = [], iter(accuracies)
    monkeypatch.setattr(Learner, "epoch", lambda self, *given: epochs.append(None))
    monkeypatch.setattr(Learner, "accuracy", lambda self, images, labels: next(told))
    made, served, trained, before = job(**teacher), [], [], 0

    def each(job, outcome):
        nonlocal before
        served.append(job.teacher._network)
        trained.append(len(epochs) - before)
        before = len(epochs)

    made.run(each)
    return served, trained


def test_fixed_loops_have_their_full_length(monkeypatch):
    served, trained = counted(monkeypatch, [], iterations=7, outer_loop=3, inner_loop=5)
    assert served == [0, 0, 1, 1, 1, 2, 2], "after each step: a third step ends a network"
    assert trained == [5, 5, 0, 5, 5, 0, 5]
    assert counted(monkeypatch, [], iterations=3, outer_loop=1)[1] == [0, 0, 0]


def test_steady_accuracies_end_the_outer_loop_and_never_the_inner_one(monkeypatch):
    served, trained = counted(monkeypatch, iter(lambda: 0.5, None), iterations=6, outer_loop=50, inner_loop=8, **DYNAMIC)
    assert served == [0, 0, 1, 1, 1, 2], "three accuracies that do not differ"
    assert trained == [8, 8, 0, 8, 8, 0], "the bound"


def test_moving_accuracies_end_the_inner_loop_and_never_the_outer_one(monkeypatch):
    told = (0.1 * k for k in range(10**6))
    served, trained = counted(monkeypatch, told, iterations=6, outer_loop=5, inner_loop=50, **DYNAMIC)
    assert served == [0, 0, 0, 0, 1, 1], "the bound"
    assert trained == [3, 3, 3, 3, 0, 3], "the window"


def test_only_the_last_accuracies_of_a_loop_count(monkeypatch):
    outer, inner = [0.0, 0.9, 0.5, 0.5, 0.52], [[0.2] * 4 + [0.26], [0.5] * 5, [0.5, 0.6, 0.5], [0.5] * 5]
    told = [value for k in range(5) for value in [outer[k], *(inner[k] if k < 4 else [])]]
    served, trained = counted(monkeypatch, told, iterations=5, outer_loop=9, inner_loop=5, **DYNAMIC)
    assert served == [0, 0, 0, 0, 1] and trained == [5, 5, 3, 5, 0]


@pytest.mark.parametrize("compile_", ["never", "always"])
def test_accuracy_counts_over_batches(compile_, monkeypatch, written):
    made = job(compile_=compile_)
    made.teacher.state(0, dsa.Chain(()))
    network, (images, labels) = module(made, 0), made.selector.batch(5, torch.Generator().manual_seed(0))
    right = sum(int(network(x[None]).argmax()) == int(y) for x, y in zip(images, labels, strict=True))
    monkeypatch.setattr("esp_core.teachers.learning.ACCURACY_BATCH", 4)
    assert made.teacher.learner.accuracy(images, labels) == pytest.approx(right / 15)
    assert len(labels) == 15 and 0 < right < 15
    assert len(written) == (2 if compile_ == "always" else 0), "batches of four, and the last of three"


RESUMED = {
    "fixed": ({"gradient": {}}, {}),
    "dynamic": ({"features": {}}, {**DYNAMIC, "outer_loop": 6, "inner_loop": 6, "outer_change": 0.9, "lr": 0.1}),
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_is_the_same_bit_by_bit_from_every_step(name):
    objectives, teacher = RESUMED[name]
    saved, whole = [], job(objectives=objectives, **teacher)
    whole.run(lambda job, outcome: saved.append(save({key: t.clone() for key, t in job.checkpoint().items()})))
    places = [int(load(part)["teacher/position"]) for part in saved]
    assert places == [1, 2, 0, 1, 2, 0, 1], "the checkpoints lie within and between networks; accuracies, if looked at, end them"
    for step, part in enumerate(saved[:-1], start=1):
        again, left = job(objectives=objectives, **teacher), []
        again.resume(load(part))
        again.run(lambda job, outcome, left=left: left.append(save({key: t.clone() for key, t in job.checkpoint().items()})))
        assert left == saved[step:], step

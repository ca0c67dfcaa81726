"""DC, DSA, IDC and CAFE as their recipes name them, end to end on small data, and the decay that CAFE asks for."""

import itertools

import pytest
import torch
from small import Experts, dataset, spec

from esp_core import parametrisations
from esp_core.distillation.outer_loop import Distillation
from esp_core.distillation.outer_optimiser import OuterOptimiser
from esp_core.parametrisations import Task
from esp_core.runtime.errors import UserError
from esp_core.runtime.live_memory import LiveBytes
from esp_core.study import methods

CPU = torch.device("cpu")


def run(method, ipc, iterations, **changes):
    recipe = {**methods.recipe(method, "cifar10", ipc), "iterations": iterations, **changes}
    made = Distillation({**spec("dm", ipc=ipc), "recipe": recipe}, dataset(per_class=48), Experts(), CPU)
    seen = []
    made.run(lambda job, outcome: seen.append((float(outcome.total), job.synthetic.tensors["pixels"].detach().clone())))
    return made, seen


@pytest.mark.parametrize("ipc", [1, 10])
@pytest.mark.parametrize("method", ["dc", "dsa", "idc", "cafe_dsa"])
def test_a_recipe_runs_and_every_step_moves_the_images(method, ipc):
    made, seen = run(method, ipc, 3)
    start = Distillation(
        {**made.spec, "recipe": {**made.recipe, "iterations": 0}}, dataset(per_class=48), Experts(), CPU
    ).synthetic.tensors["pixels"]
    pixels = [start, *(p for _, p in seen)]
    assert all(value > 0 for value, _ in seen)
    assert all(torch.isfinite(p).all() and not torch.equal(p, q) for p, q in itertools.pairwise(pixels))
    again, _ = run(method, ipc, 3)
    assert torch.equal(again.synthetic.tensors["pixels"], pixels[-1])


@pytest.mark.parametrize("method", ["dc", "dsa", "idc", "cafe_dsa"])
def test_every_method_lowers_its_loss(method):
    """On one network that does not learn, without augmentation, by Adam: steps along the gradient that the method gives."""
    still = {"lr": 1e-9, "kind": "trained_on_real", "inner_steps": 100, "weight_decay": 0.0}
    adam = {"kind": "adam", "lr_pixels": 0.05, "decay": "constant"}
    _, seen = run(method, 1, 40, teacher=still, augment="none", optimiser=adam, real_batch=12)
    first, last = (sum(value for value, _ in part) for part in (seen[:5], seen[-5:]))
    assert last < 0.9 * first


@pytest.mark.parametrize("method", ["dsa", "idc", "cafe_dsa"])
def test_nothing_of_a_step_stays_alive(method):
    teacher = {**methods.recipe(method, "cifar10", 1)["teacher"]}
    teacher |= {"inner_steps": 4} if method == "idc" else {"outer_loop": 4, "inner_loop": 2, "loops": "fixed"}
    recipe = {**methods.recipe(method, "cifar10", 1), "iterations": 15, "teacher": teacher, "augment": "none"}
    made, alive = Distillation({**spec("dm"), "recipe": recipe}, dataset(), Experts(), CPU), []
    with LiveBytes() as mode:
        made.run(lambda job, outcome: alive.append(mode.alive))
    assert alive[5] == alive[9] == alive[13], "each is the second step of a network"


def test_published_loops_and_rates():
    """DC-family get_loops (outer, inner) and 1000 networks; IDC's rate is proportional to the IPC."""
    for dataset_name in ("svhn", "cifar10", "cifar100", "tinyimagenet"):
        for ipc, outer, inner in ((1, 1, 1), (10, 10, 50), (50, 50, 10)):
            for method in ("dc", "dsa"):
                recipe = methods.recipe(method, dataset_name, ipc)
                assert (recipe["teacher"]["outer_loop"], recipe["teacher"]["inner_loop"]) == (outer, inner)
                assert recipe["iterations"] == 1000 * outer
        rates = [methods.recipe("idc", dataset_name, ipc)["optimiser"]["lr_pixels"] for ipc in (1, 10, 50)]
        assert [rate / rates[1] for rate in rates] == pytest.approx([0.1, 1, 5], rel=0.01)
    assert methods.recipe("dc", "cifar10", 1)["augment"] == "none"
    assert methods.recipe("dsa", "svhn", 1, flip=False)["augment"] == "color_crop_cutout_scale_rotate"
    assert methods.recipe("dsa", "cifar10", 1)["parametrisation"]["init"] == "random"


def outer(**optimiser):
    task = Task(2, 1, 1, 4)
    made = parametrisations.build(task, "pixels", clamp=0)
    return OuterOptimiser(made, {"iterations": 10, "optimiser": {"kind": "sgd", "lr_pixels": 0.8, **optimiser}}), made.tensors["pixels"]


def test_decay_by_steps_multiplies_at_the_milestones():
    made, pixels = outer(decay="steps", milestones=[0.6, 0.8, 0.9], gamma=0.5)
    moved = []
    for step in range(10):
        before = pixels.detach().clone()
        pixels.grad = torch.ones_like(pixels)
        made.step(step)
        moved.append(float((before - pixels.detach()).mean()))
    assert moved == pytest.approx([0.8] * 6 + [0.4] * 2 + [0.2, 0.1], rel=1e-5)


@pytest.mark.parametrize("given", [{}, {"milestones": [0.5]}, {"gamma": 0.5}])
def test_decay_by_steps_needs_milestones_and_gamma(given):
    with pytest.raises(UserError, match="optimiser.decay: steps needs optimiser.milestones and optimiser.gamma"):
        outer(decay="steps", **given)

"""Networks that learn from real images: against torch's own SGD, IDC's augmentation by hand, and resuming bit by bit."""

import pytest
import torch
from safetensors.torch import load, save
from small import CLASSES, NETWORK, SIZE, Experts, dataset, spec

from esp_core import networks
from esp_core.augment import dsa
from esp_core.distillation.outer_loop import Distillation
from esp_core.networks.flat import flatten
from esp_core.runtime import seeds
from esp_core.teachers.trained_on_real import strategy
from esp_core.training.epoch import draw_mix
from esp_core.training.protocol import mixed_loss

CPU = torch.device("cpu")


def job(iterations=7, compile_="auto", **teacher):
    teacher = {"kind": "trained_on_real", "inner_steps": 3, "images": 20, "batch": 8, "lr": 0.1, **teacher}
    changes = {"teacher": teacher, "objectives": {"gradient": {"metric": "mse", "layers": "conv"}}, "iterations": iterations}
    return Distillation(spec("dm", **changes, compile=compile_), dataset(), Experts(), CPU)


@pytest.mark.parametrize(("cutmix", "compile_"), [(0.0, "never"), (0.5, "never"), (0.0, "always"), (0.5, "always")])
def test_theta_is_that_of_plain_sgd_on_random_real_images(cutmix, compile_, written):
    made, data, compared = job(cutmix=cutmix, compile_=compile_), dataset(), 0
    images, labels = data.normalise(data.train.images), data.train.labels
    network, optimiser = None, None

    def each(job, outcome):
        nonlocal network, optimiser, compared
        step = job.step - 1
        if step % 3 == 0:
            seed = seeds.derive(*job.names, "network", step // 3)
            network = networks.build(**NETWORK, channels=1, size=SIZE, classes=CLASSES, seed=seed)
            optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0005)
        if step % 3 == 2:
            return
        generator = seeds.generator(*job.names, "inner", step)
        chosen = torch.randperm(len(labels), generator=generator)[:20]
        assert chosen.unique().numel() == 20
        for index in chosen.split(8):
            seen = images[index]
            for operation in ("color", "crop", *([] if cutmix else ["cutout"])):
                seen = dsa.draw(operation, len(index), generator, same_operation=True)(seen)
            loss = mixed_loss(network, seen, labels[index], draw_mix(len(index), SIZE, cutmix, generator))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        torch.testing.assert_close(job.teacher.learner.theta, flatten(network), rtol=1e-4, atol=1e-6)
        compared += 1

    made.run(each)
    assert compared == 5
    of_teacher = [name for name in made.compiled if name.startswith("teacher")]
    assert of_teacher == ([f"teacher learning from {n} images" for n in (8, 4)] if compile_ == "always" else [])


def test_a_new_network_every_so_many_steps():
    made, first = job(iterations=8), []
    state = made.teacher.state
    made.teacher.state = lambda step, draw: first.append(state(step, draw).theta) or state(step, draw)
    made.run(lambda job, outcome: None)
    fresh = [
        flatten(networks.build(**NETWORK, channels=1, size=SIZE, classes=CLASSES, seed=seeds.derive(*made.names, "network", k)))
        for k in range(3)
    ]
    for step, theta in enumerate(first):
        assert torch.equal(theta, fresh[step // 3]) == (step % 3 == 0), step
    assert made.teacher.state(0, dsa.Chain(())).loss == "ce"


def test_never_more_images_than_there_are():
    made = job(images=10**6, iterations=2)
    seen, epoch = [], made.teacher.learner.epoch
    made.teacher.learner.epoch = lambda batches, *rest: (
        seen.append(sorted(torch.cat([b.chosen for b in batches]).tolist())) or epoch(batches, *rest)
    )
    made.run(lambda job, outcome: None)
    assert seen == [list(range(36))] * 2


def test_augmentation_is_flip_colour_one_of_the_rest_and_cutout():
    """Each phase by hand, with the same generator; the third takes one operation for the whole batch."""
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    taken = set()
    for seed in range(12):
        named = strategy(["color", "crop", "cutout", "flip", "scale", "rotate"])
        ours = dsa.draw(named, 6, torch.Generator().manual_seed(seed), same_operation=True)(images)
        generator = torch.Generator().manual_seed(seed)
        wanted = images
        for phase in (["flip"], ["color"], ["crop", "scale", "rotate"], ["cutout"]):
            pick = phase[int(torch.randint(len(phase), (1,), generator=generator))]
            wanted = dsa.Draw((pick,) * 6, torch.rand(6, 4, generator=generator))(wanted)
            taken |= {pick}
        assert torch.equal(ours, wanted)
    assert len(taken) == 6
    assert strategy([]) == ""


def test_a_resumed_run_is_the_same_bit_by_bit_from_every_step():
    saved, whole = [], job()
    whole.run(lambda job, outcome: saved.append(save({key: t.clone() for key, t in job.checkpoint().items()})))
    assert len(set(saved)) == 7
    for step, part in enumerate(saved[:-1], start=1):
        again, left = job(), []
        again.resume(load(part))
        again.run(lambda job, outcome, left=left: left.append(save({key: t.clone() for key, t in job.checkpoint().items()})))
        assert left == saved[step:], step

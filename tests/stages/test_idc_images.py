"""How many images IDC's recipe takes in a step, of a class and for its networks."""

import pytest
import torch
from small import NETWORK, dataset

from esp_core.distillation.outer_loop import Distillation
from esp_core.runtime import seeds
from esp_core.study import methods


def units_of(ipc, **changes):
    """The units of two steps of a small IDC cell, its set, and how many images a class has in a step."""
    recipe = methods.recipe("idc", "cifar10", ipc)
    recipe = recipe | {key: {**recipe[key], **value} if isinstance(value, dict) else value for key, value in changes.items()}
    spec = {"study_seed": 0, "dataset": "small", "ipc": ipc, "method": "idc", "network": NETWORK, "recipe": recipe}
    made = Distillation(spec, dataset(per_class=200), None, torch.device("cpu"))
    drawn = [made._units(seeds.generator(0, "step", step)) for step in (0, 1)]
    return made, drawn, [torch.bincount(made.synthetic.labels(units)).tolist() for units in drawn]


@pytest.mark.parametrize(
    ("ipc", "changes", "images"),
    [
        (50, {}, 128),
        (10, {}, 40),
        (32, {}, 128),  # all of a class, to the image
        (50, {"parametrisation": {"factor": 4, "init": "noise"}}, 128),
        (50, {"synthetic_per_class": 131}, 128),  # whole units
        (50, {"synthetic_per_class": 3}, 4),  # one at least
    ],
)
def test_idc_matches_at_most_so_many_images_of_a_class_in_whole_units(ipc, changes, images):
    made, drawn, counts = units_of(ipc, **changes)
    assert counts == [[images] * 3] * 2
    assert all(len(units.unique()) == len(units) and torch.equal(units, units.sort().values) for units in drawn)
    everything = images == ipc * made.synthetic.images_per_unit
    assert torch.equal(*drawn) == everything


@pytest.mark.parametrize(("dataset", "least"), [("cifar10", 2000), ("cifar100", 2000), ("tinyimagenet", 2000), ("svhn", 500)])
@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_idcs_networks_learn_from_whole_batches_until_so_many_images_have_passed(dataset, ipc, least):
    teacher = methods.recipe("idc", dataset, ipc)["teacher"]
    assert teacher["images"] == -(-least // teacher["batch"]) * teacher["batch"]

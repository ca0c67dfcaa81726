from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from trajectories.expert_specs import content, largest_angle, manifest_spec, shard_spec

from esp_core import datasets, networks
from esp_core.augment import dsa
from esp_core.networks.flat import flatten
from esp_core.runtime import seeds
from esp_core.runtime.errors import UserError
from esp_core.training import engine
from esp_core.trajectories import manifest, store
from esp_core.trajectories.reader import Trajectories
from esp_core.trajectories.train_shard import produce
from esp_core.trajectories.trainer import Recipe, Trainer, settings

EAGER = engine.Plan()


def small_network(seed=0):
    return networks.build("convnet3", channels=1, size=8, classes=10, width=4, depth=2, seed=seed)


def plain_losses(network, recipe, data, steps, *names):
    """The recipe as one would write it down: normalise all, shuffle, augment, torch.optim.SGD."""
    images = (data.train.images.float() / 255 - data.normalisation.mean.view(-1, 1, 1)) / data.normalisation.std.view(-1, 1, 1)
    optimiser = torch.optim.SGD(network.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    losses, epoch = [], 0
    while len(losses) < steps:
        generator = seeds.generator(*names, epoch)
        order = torch.randperm(len(images), generator=generator)
        for begin in range(0, len(order), recipe.batch):
            batch = order[begin : begin + recipe.batch]
            x = dsa.draw(recipe.augment, len(batch), generator, same_operation=True)(images[batch])
            loss = cross_entropy(network(x), data.train.labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        epoch += 1
    return losses[:steps]


def our_losses(trainer, steps, *names):
    losses, epoch = [], 0
    while len(losses) < steps:
        losses += [float(loss) for loss, _ in trainer.steps(seeds.generator(*names, epoch))]
        epoch += 1
    return losses[:steps]


@pytest.mark.parametrize("momentum, weight_decay", [(0.0, 0.0), (0.9, 5e-4)])
def test_losses_are_those_of_the_plain_recipe(digits, momentum, weight_decay):
    recipe = Recipe(lr=0.05, batch=300, momentum=momentum, weight_decay=weight_decay, augment="color_crop_cutout_scale_rotate")
    data = datasets.load(digits)
    ours = our_losses(Trainer(small_network(), recipe, data, EAGER), 20, "draws")
    theirs = plain_losses(small_network(), recipe, data, 20, "draws")
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert ours[-1] != pytest.approx(ours[0], rel=1e-3)


def test_snapshots_differ_and_begin_with_the_initialisation(stored):
    experts = Trajectories(stored / "manifest.json")
    whole = experts.segment(2, 0, experts.snapshots - 1)
    assert all(not torch.equal(a, b) for a, b in pairwise(whole))
    fresh = flatten(small_network(seeds.derive(3, "experts", "digits", 2, "init")))
    assert torch.allclose(whole[0], fresh, rtol=2**-11, atol=0)


def test_the_last_snapshot_has_the_recorded_accuracy(stored, digits):
    experts = Trajectories(stored / "manifest.json")
    data = datasets.load(digits)
    network = small_network()
    torch.nn.utils.vector_to_parameters(experts.snapshot(3, 3), network.parameters())
    right = (network(data.normalise(data.test.images)).argmax(1) == data.test.labels).float().mean()
    assert experts.manifest["experts"][3]["accuracy"] == pytest.approx(100 * float(right), abs=0.3)
    assert float(right) > 0.15


def test_an_expert_is_the_same_in_any_shard(stored, make, tmp_path):
    for number, shard, row in ((2, "shard-001.h5", 0), (1, "shard-000.h5", 1)):
        alone = content(make(tmp_path / f"{number}.h5", first=number, count=1))
        for name, values in content(stored / shard).items():
            assert np.array_equal(values[row], alone[name][0])


def test_stored_subspaces_of_trained_experts_are_within_a_fifth_of_a_degree(digits, tmp_path, monkeypatch):
    exact, encode = [], store.encode

    def spy(snapshots):
        exact.append(snapshots.copy())
        return encode(snapshots)

    monkeypatch.setattr(store, "encode", spy)
    spec = shard_spec(epochs=25, keep=26, batch=100)
    produce(spec, "code", digits, tmp_path / "shard-000.h5")
    manifest.build(tmp_path / "manifest.json", manifest_spec(2, epochs=25, keep=26, batch=100), [tmp_path / "shard-000.h5"])
    experts = Trajectories(tmp_path / "manifest.json")
    for expert, start in product(range(2), range(0, 21, 5)):
        assert largest_angle(exact[expert][start : start + 6], experts.segment(expert, start, 5)) <= 0.2


@pytest.mark.parametrize("change", [{"study_seed": 4}, {"first": 1}])
def test_another_seed_or_number_is_another_expert(stored, make, tmp_path, change):
    other = content(make(tmp_path / "other.h5", count=1, **change))
    assert other["digest"][0] != content(stored / "shard-000.h5")["digest"][0]


def test_only_the_first_snapshots_are_kept(stored, make, tmp_path):
    short, long = content(make(tmp_path / "short.h5", count=1, keep=2)), content(stored / "shard-000.h5")
    assert short["steps"].shape[1] == 2
    assert short["accuracy"][0] == long["accuracy"][0]  # all epochs were trained
    assert np.array_equal(short["loss"][0], long["loss"][0])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"keep": 5}, r"experts.keep: 5 snapshots; a trajectory of 3 epochs has 2 to 4"),
        ({"lr": 1e30}, r"digits: expert 0: diverged in epoch ., its loss is .*; lower experts.lr"),
        ({"lr": 0.0}, r"expert 0: snapshots 0 and 1 are equal: nothing was learnt; raise experts.lr"),
        ({"precision": "float8"}, r"experts.precision: float8 is unknown; use one of auto, float32, bfloat16"),
        ({"dataset": "cifar10"}, r"holds digits, not cifar10"),
        ({"network": {"name": "resnet10"}}, r"network resnet10: it keeps running statistics"),
    ],
)
def test_mistakes_are_named(digits, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        produce(shard_spec(**changes), "code", digits, tmp_path / "shard.h5")
    assert not (tmp_path / "shard.h5").exists()


def test_an_unknown_key_of_the_recipe_is_named():
    with pytest.raises(UserError, match=r"experts.learning_rate: unknown key; use epochs, lr"):
        settings({"learning_rate": 0.1})

"""One outer step of every method that stores pixels against its authors' own step, in [0, 1] space, and the constants that it rests on."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from dataset_files import cifar_records, digest

from esp_core import datasets, networks, parametrisations
from esp_core.datasets.catalogue import ENTRIES
from esp_core.datasets.normalisation import Normalisation
from esp_core.distillation.condensed import load_condensed
from esp_core.distillation.outer_loop import Distillation
from esp_core.networks.flat import flatten
from esp_core.parametrisations import Task
from esp_core.runtime.errors import UserError
from esp_core.stages import distill
from esp_core.stages.prepare import prepare
from esp_core.study import job_specs, methods
from esp_core.study.config import Study

CIFAR10 = ENTRIES["cifar10"]
NETWORK = {"name": "convnet3", "width": 4, "depth": 2}
CPU = torch.device("cpu")
STD = torch.tensor(CIFAR10.std).double().view(-1, 1, 1)
# The rate at which the authors step normalised pixels by SGD with momentum 0.5, and the share of the loss' gradient that they take: main.py
# and main_DM.py of DC, DSA and DM, CAFE's distill.py, MTT's settings in DC-BENCH, TESLA's README and the factor 2 that its code loses.
AUTHORS = {
    ("dc", 1): (0.1, 1.0),
    ("dsa", 1): (0.1, 1.0),
    ("dm", 1): (1.0, 1.0),
    ("dm", 50): (1.0, 1.0),
    ("cafe_dsa", 1): (0.1, 1.0),
    ("mtt", 1): (100.0, 1.0),
    ("mtt", 50): (1000.0, 1.0),
    ("tesla", 1): (1000.0, 0.5),
}
# What makes a step faster and leaves the rates alone.
LESS = {
    "cafe_dsa": {"teacher": {"query": 4, "inner_loop": 2}},
    "mtt": {"objectives": {"trajectory": {"steps": 2}}},
    "tesla": {"objectives": {"trajectory": {"steps": 3}}},
    "idc": {"teacher": {"images": 64}},
    "kip": {"teacher": {"count": 2}},
}


def study(**changes):
    settings = {"ipc": [1], "normalisation": "published", **changes}
    return Study({"study": "units", "datasets": {"cifar10": settings}, "distill_network": NETWORK, "methods": {"random": {}}})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """files.json of a CIFAR-10 of noise, 250 training images a class in its official layout."""
    folder = tmp_path_factory.mktemp("cifar")
    names = [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]
    for seed, name in enumerate(names):
        (folder / name).write_bytes(cifar_records(torch.arange(500 if "data" in name else 10) % 10, seed)[0])
    members = [{"name": name, "size": (folder / name).stat().st_size, "sha256": digest(folder / name)} for name in names]
    path = folder / "files.json"
    path.write_text(json.dumps({"folder": str(folder), "from": "here", "verified": "members", "files": members}))
    return path


def prepared(files, normalisation):
    path = files.with_name(f"{normalisation}.h5")
    prepare(job_specs.spec(study(normalisation=normalisation), "prepare", "cifar10"), path, files)
    return path


@pytest.fixture(scope="module")
def published(files):
    return prepared(files, "published")


@pytest.fixture(scope="module")
def measured(files):
    return prepared(files, "measured")


class Experts:
    """Made-up trajectories, as long as any recipe reads them."""

    snapshots = 51

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        start = flatten(networks.build(**NETWORK, channels=3, size=32, classes=10, seed=1))
        walk = 0.001 * torch.randn(self.snapshots, len(start), generator=generator)
        self.weights = start + walk.cumsum(0)

    def __len__(self):
        return 1

    def segment(self, expert, start, length):
        return self.weights[start : start + length + 1]

    def snapshot(self, expert, index):
        return self.weights[index]


def cell(method, ipc, data, **changes):
    """A cell under the recipe as it stands, but for fewer real images a class and steps of a student."""
    recipe = methods.merge(methods.recipe(method, "cifar10", ipc), {"real_batch": 8, **LESS.get(method, {}), **changes})
    spec = {"study_seed": 0, "dataset": "cifar10", "ipc": ipc, "method": method, "network": NETWORK, "recipe": recipe}
    return Distillation(spec, data, Experts() if methods.uses_experts(recipe) else None, CPU)


def two_steps(made):
    """How far the pixels go in [0, 1] space in each of two outer steps, and the gradients by them there, float64, (n, 3, 32, 32) each.

    Whether it is the authors' constants that take pixels there is up to the data.
    """
    std = made.data.normalisation.std.double().view(-1, 1, 1)  # the mean falls out of a difference
    places = [made.synthetic.tensors["pixels"].detach().double()]
    gradients = []

    def each(job, outcome):
        places.append(made.synthetic.tensors["pixels"].detach().double())
        gradients.append(made.synthetic.tensors["pixels"].grad.double() / std)  # normalised = ([0, 1] - mean) / std
        if job.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.run(each)
    return [(after - before) * std for before, after in pairwise(places)], gradients


def momentum(gradients):
    """The velocities of SGD with momentum 0.5."""
    return [gradients[0], 0.5 * gradients[0] + gradients[1]]


def off(moved, expected):
    """The largest distance of the steps `moved` from `expected`, as a part of the latter."""
    assert all(step.abs().max() > 1e-5 for step in expected)  # far above what float32 rounds a pixel by
    return max(float((ours - theirs).norm() / theirs.norm()) for ours, theirs in zip(moved, expected, strict=True))


@pytest.mark.parametrize(("method", "ipc"), AUTHORS)
def test_normalised_pixels_move_as_far_as_their_authors_move_them(method, ipc, published):
    rate, share = AUTHORS[method, ipc]
    moved, gradients = two_steps(cell(method, ipc, datasets.load(published)))
    assert off(moved, [-rate * share * STD**2 * velocity for velocity in momentum(gradients)]) < 2e-3


def test_the_measured_constants_would_move_them_elsewhere(measured):
    """The test above can fail: what it tells apart is the square of the standard deviations' ratio."""
    moved, gradients = two_steps(cell("dm", 1, datasets.load(measured)))
    assert off(moved, [-(STD**2) * velocity for velocity in momentum(gradients)]) > 0.2


@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_idc_moves_pixels_between_zero_and_one_at_its_own_rate(ipc, published):
    """Its recipe has the mean of 1 / std^2 over the channels, which is within 1.5 % of each channel's."""
    moved, gradients = two_steps(cell("idc", ipc, datasets.load(published)))
    expected = [-0.005 * ipc / 10 * velocity for velocity in momentum(gradients)]
    for channel in range(3):
        assert off([step[:, channel] for step in moved], [step[:, channel] for step in expected]) < 0.03


@pytest.mark.parametrize("ipc", [1, 10])
def test_kip_moves_normalised_pixels_by_adam(ipc, published):
    moved, gradients = two_steps(cell("kip", ipc, datasets.load(published)))
    expected, mean, square = [], 0.0, 0.0
    for t, gradient in enumerate(gradients, 1):  # Kingma and Ba, Algorithm 1, at KIP's rate
        own = gradient * STD  # by the normalised pixels
        mean, square = 0.9 * mean + 0.1 * own, 0.999 * square + 0.001 * own**2
        expected.append(-0.04 * STD * (mean / (1 - 0.9**t)) / ((square / (1 - 0.999**t)).sqrt() + 1e-8))
    assert off(moved, expected) < 2e-3


def test_published_constants_are_in_the_data_their_digest_and_the_set(published, measured, tmp_path):
    data, other = datasets.load(published), datasets.load(measured)
    assert data.normalisation.mean.tolist() == pytest.approx(CIFAR10.mean) and data.normalisation.std.tolist() == pytest.approx(CIFAR10.std)
    assert torch.equal(other.train.images, data.train.images) and other.digest != data.digest
    pixels = other.train.images.double() / 255
    assert other.normalisation.std.tolist() == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), rel=1e-6)
    distill.run(job_specs.spec(study(), "distill", "cifar10", "1", "random"), published, None, tmp_path / "set.safetensors")
    made = load_condensed(tmp_path / "set.safetensors")
    assert made.metadata["task"]["mean"] == pytest.approx(CIFAR10.mean) and made.metadata["task"]["std"] == pytest.approx(CIFAR10.std)
    assert made.metadata["data"] == data.digest
    normalised = (made.images.double() - torch.tensor(CIFAR10.mean).view(-1, 1, 1)) / torch.tensor(CIFAR10.std).view(-1, 1, 1)
    torch.testing.assert_close(made.normalise(made.images).double(), normalised.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.mean])
def test_every_dataset_with_constants_passes_them_on(name):
    spec = job_specs.spec(
        Study({"study": "s", "datasets": {name: {"ipc": [1], "normalisation": "published"}}, "methods": {"random": {}}}), "prepare", name
    )
    entry = ENTRIES[name]
    assert spec["normalisation"] == {"mean": list(entry.mean), "std": list(entry.std)}
    assert len(entry.mean) == len(entry.std) == entry.shape[0] and all(0 < value < 1 for value in (*entry.mean, *entry.std))


@pytest.mark.parametrize("settings", [{"kind": "digits"}, {"kind": "imagefolder", "options": {"path": "nowhere"}}])
def test_a_dataset_without_published_constants_refuses_them(settings):
    config = {"study": "s", "datasets": {"mine": {"ipc": [1], "normalisation": "published", **settings}}, "methods": {"random": {}}}
    with pytest.raises(UserError) as refused:
        Study(config)
    assert str(refused.value) == f"datasets.mine.normalisation: nothing is published for {settings['kind']}; allowed: measured"


@pytest.mark.parametrize("method", [name for name in methods.names() if methods.recipe(name)["parametrisation"]["kind"] != "latent"])
def test_pixels_are_clamped_when_their_authors_clamp_them(method):
    """Never, but for IDC, which does it before each network, of a hundred steps."""
    for ipc in (1, 10, 50):
        settings = methods.recipe(method, "cifar10", ipc)["parametrisation"] | {"init": "noise"}
        made = parametrisations.build(Task(2, 1, 3, 8, Normalisation(torch.tensor(CIFAR10.mean), torch.tensor(CIFAR10.std))), **settings)
        clamped = []
        for step in range(1, 301):
            made.tensors["pixels"].fill_(99.0)
            made.restrict(step)
            if made.tensors["pixels"].max() < 99:
                clamped.append(step)
        assert clamped == ([100, 200, 300] if method == "idc" else [])


def test_the_bound_changes_nothing_where_a_class_has_fewer_images(published):
    ends = []
    for bound in (128, None):
        made = cell("idc", 10, datasets.load(published), synthetic_per_class=bound)
        two_steps(made)
        ends.append(made.synthetic.tensors["pixels"])
    assert torch.equal(*ends)


def test_every_method_stands_beside_its_authors_code():
    text = (Path(__file__).parents[1] / "docs/methods.md").read_text()
    assert [name for name in methods.names() if f"`{name}`" not in text] == []

"""A study of a whitened dataset beside one that is not: every stage sees the images as kornia whitens them."""

import shutil

import numpy as np
import pytest
import torch
from kornia.enhance import ZCAWhitening
from torch.nn.functional import avg_pool2d
from torch.testing import assert_close

from esp_core import datasets, load_condensed
from esp_core.datasets.preparing import prepare
from esp_core.runtime.errors import UserError
from esp_core.stages import distill, evaluate
from esp_core.study import job_specs
from esp_core.study.config import Study
from esp_core.trajectories import manifest
from esp_core.trajectories.train_shard import produce
from esp_core.trajectories.trainer import Recipe, Trainer

STUDY = {
    "study": "white",
    "distill_network": {"name": "convnet3", "width": 4},
    "experts": {"count": 1, "shard": 1, "epochs": 3, "lr": 0.05},
    "methods": {
        "mtt": {"iterations": 3, "objectives": {"trajectory": {"steps": 2}}, "teacher": {"start_max": 1}},
        "esp": {
            "iterations": 3,
            "real_batch": 8,
            "teacher": {"length": 1, "steps": 2, "start_max": 1},
            "parametrisation": {"decoders": 2, "code_channels": 1, "width": 2},
        },
        "full": {},
    },
    "evaluation": {"seeds": 1, "epochs": 2, "full": {"epochs": 1}},
}


def digits(_):
    return {"kind": "digits", "options": {"size": 16}}


def cifar10(request):
    """A few of the real images, averaged to 16 x 16."""
    folder = request.getfixturevalue("real")("cifar-10-batches-bin") / "cifar-10-batches-bin"
    arrays = {}
    for part, file, count in (("train", "data_batch_1.bin", 400), ("test", "test_batch.bin", 200)):
        rows = torch.from_numpy(np.fromfile(folder / file, np.uint8, count * 3073).reshape(-1, 3073))
        images = avg_pool2d(rows[:, 1:].reshape(-1, 3, 32, 32).float(), 2).round().byte()
        arrays |= {f"{part}_images": images.numpy(), f"{part}_labels": rows[:, 0].long().numpy()}
    path = request.getfixturevalue("tmp_path_factory").mktemp("cifar10") / "few.npz"
    np.savez(path, **arrays)
    return {"kind": "npz", "options": {"path": str(path)}}


@pytest.mark.parametrize("source", [digits, cifar10])
def test_a_whitened_study_runs_to_its_accuracies(source, request, tmp_path):
    settings = {"ipc": [2], **source(request)}
    study = Study(STUDY | {"datasets": {"white": {**settings, "whiten": "zca"}, "plain": settings}})
    prepared = {name: tmp_path / f"{name}.h5" for name in study.datasets}
    for name, path in prepared.items():
        prepare(job_specs.spec(study, "prepare", name), path)
    data = datasets.load(prepared["white"])
    assert data.digest != datasets.load(prepared["plain"]).digest
    kornia = ZCAWhitening(eps=0.1).fit(data.train.images.float() / 255)
    expected = kornia(data.test.images.float() / 255)

    produce(job_specs.spec(study, "experts", "white", "0"), "", prepared["white"], tmp_path / "shard-000.h5", "cpu")
    manifest.build(tmp_path / "manifest.json", job_specs.spec(study, "manifest", "white"), [tmp_path / "shard-000.h5"])
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(expected[0].numel(), 10))
    assert_close(Trainer(network, Recipe(), data).train.batch(torch.arange(9))[0], kornia(data.train.images[:9] / 255), rtol=0, atol=1e-5)

    for method in ("mtt", "esp"):
        out = tmp_path / f"{method}.safetensors"
        distill.run(job_specs.spec(study, "distill", "white", "2", method), prepared["white"], tmp_path / "manifest.json", out, "", "cpu")
        spec = job_specs.spec(study, "evaluate", "white", "2", method, "convnet3")
        (row,) = evaluate.run(spec, prepared["white"], out, device="cpu")
        assert 0 <= float(row["accuracy"]) <= 100 and row["budget_used"] <= row["budget"] == 20 * expected[0].numel()
        elsewhere = shutil.copy(out, tmp_path / "elsewhere")
        made = load_condensed(elsewhere)
        assert torch.equal(made.normalise(data.test.images), expected)
        if method == "esp":  # whose decoders end in a sigmoid
            assert -1e-5 < made.images.min() and made.images.max() < 1 + 1e-5
        with pytest.raises(UserError, match="its normalisation is ZCA whitening, that of the data plain by mean and standard deviation"):
            evaluate.run(spec | {"dataset": "plain"}, prepared["plain"], out, device="cpu")
    (row,) = evaluate.run(job_specs.spec(study, "evaluate", "white", "0", "full", "convnet3"), prepared["white"], None, device="cpu")
    assert 0 <= float(row["accuracy"]) <= 100
    tested = evaluate.Evaluation(spec, data, made)
    assert_close(tested.test.batch(torch.arange(len(expected)))[0], expected, rtol=0, atol=1e-5)
    assert_close(tested.train.batch(torch.arange(9))[0], made.normalise(made.images[:9]), rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="experts were trained on other data"):
        distill.run(spec_of_plain(study), prepared["plain"], tmp_path / "manifest.json", tmp_path / "no", "", "cpu")


def spec_of_plain(study):
    """Of a set of the data that are not whitened, under the name of those that are."""
    return job_specs.spec(study, "distill", "plain", "2", "mtt") | {"dataset": "white"}


def test_whitening_changes_the_jobs_of_its_dataset_alone():
    names = {name: {"kind": "digits", "ipc": [2]} for name in ("one", "other")}
    before, after = (Study(STUDY | {"datasets": names | {"one": names["one"] | more}}) for more in ({}, {"whiten": "zca"}))
    changed = {job for job in before.jobs() if job_specs.spec(before, *job) != job_specs.spec(after, *job)}
    assert changed - {("settings",)} == {job for job in before.jobs() if "one" in job and job[0] not in ("network", "losses")}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"whiten": "pca"}, "datasets.cifar10.whiten: 'pca' is unknown; did you mean zca? allowed: zca, zca_rfad, null"),
        (
            {"whiten": "zca", "normalisation": "published"},
            "datasets.cifar10.normalisation: published has no meaning beside whiten, which takes its place; leave one of the two out",
        ),
        (
            {"whiten": "zca", "kind": "tinyimagenet"},
            "datasets.cifar10.whiten: images of 12,288 numbers would need a whitening matrix of 604 MB in every condensed set; "
            "allowed: whiten null, or at most 4,096 numbers",
        ),
    ],
)
def test_what_cannot_be_whitened_is_one_line(changes, line):
    with pytest.raises(UserError) as raised:
        Study(STUDY | {"methods": {"mtt": {}}, "experts": {}, "datasets": {"cifar10": {"ipc": [1], **changes}}})
    assert str(raised.value) == line


def test_a_clamp_of_enlarged_tiles_is_refused_where_they_are_whitened():
    study = {"study": "white", "datasets": {"cifar10": {"ipc": [1], "whiten": "zca"}}}
    Study(study | {"methods": {"idc": {"parametrisation": {"clamp": 0}}}})
    with pytest.raises(UserError, match=r"^methods.idc.parametrisation.clamp: .*; allowed: 0, where datasets.cifar10.whiten is set$"):
        Study(study | {"methods": {"idc": {}}})

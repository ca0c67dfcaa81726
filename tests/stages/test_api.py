"""`condense` from Python: sets fit the budget, are learnt from and made once."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from kornia.enhance import ZCAWhitening
from PIL import Image
from small import CLASSES, NETWORK, SIZE
from user_images import Pairs, arrays

from esp_core import condense, networks
from esp_core.runtime.errors import UserError
from esp_core.study import code_digest
from esp_core.training.epoch import Images, accuracy
from esp_core.training.protocol import Protocol, train

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "network": NETWORK,
    "experts": 2,
    "training": {"epochs": 4, "lr": 0.1, "batch": 16},
    "iterations": 30,
    "real_batch": 8,
    "parametrisation": {"decoders": 2, "code_channels": 1, "width": 1, "upsamplings": 1},
    "teacher": {"length": 2, "steps": 2, "start_max": 1},
}


def test_condensed_arrays_teach_a_network(tmp_path):
    data, images, labels = arrays()
    made = condense(images, labels, ipc=2, folder=tmp_path, device="cpu", **TINY)
    assert made.metadata["budget_used"] <= CLASSES * 2 * SIZE**2
    assert made.images.shape[1:] == (1, SIZE, SIZE) and sorted(set(made.labels.tolist())) == list(range(CLASSES))
    network = networks.build(**NETWORK, channels=1, size=SIZE, classes=CLASSES, seed=0)
    settings = dict(name="x", epochs=100, lr=0.05, momentum=0.9, weight_decay=0.0, batch=64, augment="none", milestones=[], gamma=1.0)
    train(network, Images(made.images, made.labels, data), Protocol.from_spec(settings), torch.Generator().manual_seed(0))
    assert accuracy(network, Images(data.train.images, data.train.labels, data)) > 60  # chance is 33


def test_whitened_arrays_have_data_and_experts_of_their_own(tmp_path):
    data, images, labels = arrays()
    for whiten in (None, "zca"):
        made = condense(images, labels, ipc=2, folder=tmp_path, device="cpu", whiten=whiten, **{**TINY, "iterations": 1})
    kornias = ZCAWhitening(eps=0.1).fit(data.train.images.float() / 255)
    assert torch.equal(made.normalise(data.train.images), kornias(data.train.images.float() / 255))
    assert len(list(tmp_path.glob("data-*.h5"))) == len(list(tmp_path.glob("experts-*"))) == 2


def test_a_second_call_makes_nothing_again(tmp_path):
    _, images, labels = arrays()
    condense(images, labels, ipc=2, folder=tmp_path, device="cpu", **TINY)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert before
    condense(images, labels, ipc=2, folder=tmp_path, device="cpu", **TINY)
    condense(images, labels, ipc=2, folder=tmp_path, device="cpu", **{**TINY, "iterations": 20})
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert {p: after[p] for p in before} == before
    assert len([p for p in after if p not in before]) == 1, "another recipe shares data and experts"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"iteration": 3000}, "iteration: unknown key; did you mean iterations? allowed:"),
        ({"optimiser": {"lr_pixel": 5.0}}, "optimiser.lr_pixel: unknown key; did you mean lr_pixels? allowed:"),
        ({"objectives": {"distribution": {"wait": 1.0}}}, "objectives.distribution.wait: unknown key"),
        ({"iterations": -5}, "iterations: -5 is not allowed; allowed: at least 0"),
        ({"iterations": "9"}, "iterations: '9' is not a whole number"),
        ({"ipc": 0}, "ipc: 0 is not allowed; allowed: at least 1"),
        ({"ipc": 1.5}, "ipc: 1.5 is not a whole number"),
        ({"ipc": 31}, "images: class 0 has 30 training images, fewer than IPC 31; lower the IPC to 30 or add images"),
        ({"device": "gpu"}, "device: 'gpu' is not allowed; allowed: auto, cpu, mps, cuda or cuda:<number>"),
        ({"device": "cuda:99"}, "device: cuda:99 is asked for, but"),
        ({"method": "full"}, "method: 'full' condenses nothing; use one of random, "),
        ({"method": "../dm"}, "methods: '../dm' is not allowed"),
        ({"method": "dmm"}, "methods.dmm: unknown method; use one of random, "),
        ({"flip": "no"}, "flip: 'no' is not true or false"),
        ({"whiten": "pca"}, "whiten: 'pca' is unknown; did you mean zca? allowed: zca, zca_rfad, null"),
        ({"seed": -1}, "seed: -1 is not allowed"),
        ({"network": {"name": "convnet3", "widht": 8}}, "network.widht: unknown key; did you mean width?"),
        ({"network": {"width": 0}}, "network.width: 0 is not allowed; allowed: at least 1"),
        ({"network": {"depth": 4}}, "network convnet3: fails on 2 images of 1 x 8 x 8: RuntimeError"),
        ({"network": {"name": "resnet10", "width": 2}}, "network resnet10: it keeps running statistics"),
        ({"network": "convnet3"}, "network: 'convnet3' is not a mapping"),
        ({"parametrisation": {"kind": "formation", "factor": 3}}, "parametrisation.factor: 3 does not divide 8 pixels"),
        ({"parametrisation": {"kind": "formation", "factor": 4}, "ipc": 2}, "images: class 0 has 30 training images, of which"),
        ({"objectives": {"mine": set()}}, "set() of type set: a setting is text"),
        ({"method": "esp", "ipc": 1}, "parametrisation latent: 8 decoders take "),
        ({"method": "esp", "experts": 0}, "experts: 0 is not allowed; allowed: at least 1"),
        ({"method": "esp", "training": {"epoch": 1}}, "training.epoch: unknown key; did you mean epochs?"),
        ({"method": "esp", "training": {"lr": "0.1"}}, "training.lr: '0.1' is not a number"),
        ({"method": "esp", "training": {"count": 3}}, "training.count: unknown key; give their number as experts="),
        ({"method": "esp", "training": {"epochs": 3}}, "teacher.start_max: 20 + length 5 needs 26 snapshots"),
        ({"labels": lambda y: y + 0.5}, "labels: float64 (90,); give a whole number for each of the 90 images"),
        ({"labels": lambda y: y - 1}, "labels: -1 is negative; number the classes from 0"),
        ({"labels": lambda y: y + 1}, "labels: class 0 has no image, the next label is 1"),
        ({"labels": lambda y: np.array(["cat", "dog", "cow"])[y]}, "labels: <U3 (90,)"),
        ({"labels": lambda y: y[:-1]}, "labels: int64 (89,); give a whole number for each of the 90 images"),
        ({"labels": lambda y: y[:, None]}, "labels: int64 (90, 1)"),
        ({"labels": lambda y: y == 0}, "labels: bool (90,)"),
        ({"labels": lambda y: [[1], [1, 2]]}, "labels: no array ("),
        ({"labels": lambda y: y * 0}, "mine: two or more classes"),
        ({"images": lambda x: x[:, :, :4]}, "images: images are 4 x 8; only square ones"),
        ({"images": lambda x: x[:0], "labels": lambda y: y[:0]}, "images: uint8 (0, 1, 8, 8)"),
        ({"images": lambda x: x * 0}, "images: channel 0 has one value in every training image"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(changes, line, tmp_path):
    _, images, labels = arrays()
    changes = {"method": "dm", "network": NETWORK, "iterations": 2, "device": "cpu", **changes}
    images, labels = (changes.pop(name, lambda values: values)(values) for name, values in (("images", images), ("labels", labels)))
    with pytest.raises(UserError) as error:
        condense(images, labels, folder=tmp_path / "made", **changes)
    assert str(error.value).startswith(line) and "\n" not in str(error.value)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_what_the_result_depends_on_gives_another_set_from_the_same_folder(tmp_path):
    _, images, labels = arrays()
    given = {"ipc": 2, "folder": tmp_path, "device": "cpu", **TINY, "iterations": 2}
    first = condense(images, labels, **given)
    others = {
        "images": condense(255 - images, labels, **given),
        "labels": condense(images, (labels + 1) % CLASSES, **given),
        "training": condense(images, labels, **{**given, "training": {**TINY["training"], "lr": 0.2}}),
        "seed": condense(images, labels, **given, seed=1),
        "network": condense(images, labels, **{**given, "network": {**NETWORK, "width": 5}}),
        "teacher": condense(images, labels, **{**given, "teacher": {"length": 1, "steps": 2, "start_max": 1}}),
    }
    assert [name for name, made in others.items() if torch.equal(made.images, first.images)] == []
    assert len(condense(images, labels % 2, **given).classes) == 2
    assert condense(images, labels, **{**given, "experts": 1}).metadata["spec"]["experts"] == {"total": 1}
    assert torch.equal(condense(images.copy(), labels.astype(np.uint8), **given).images, first.images)


def test_other_code_gives_another_set(tmp_path, monkeypatch):
    _, images, labels = arrays()
    for digest in ("one", "two", "two"):
        monkeypatch.setattr(code_digest, "code", lambda *_, digest=digest: digest)
        condense(images, labels, method="dm", folder=tmp_path, device="cpu", network=NETWORK, iterations=1)
    assert len(list(tmp_path.glob("ipc-1/*.safetensors"))) == 2


def test_a_package_without_its_repository_checks_as_well(tmp_path):
    shutil.copytree(ROOT / "esp_core", tmp_path / "esp_core", ignore=shutil.ignore_patterns("__pycache__"))
    program = "import numpy as n; from esp_core import condense; condense(n.zeros((2, 1, 8, 8), n.uint8), [0, 1], method='dm', iteration=1)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert "UserError: iteration: unknown key; did you mean iterations?" in done.stderr


def test_numpy_numbers_and_tuples_are_settings(tmp_path):
    _, images, labels = arrays()
    optimiser = {"decay": "steps", "milestones": (np.float32(0.5),), "gamma": 0.5}
    settings = {"method": "dm", "ipc": np.int64(1), "iterations": np.int32(2), "optimiser": optimiser, "flip": np.bool_(False)}
    assert (
        len(condense(torch.from_numpy(images), torch.from_numpy(labels), folder=tmp_path, device="cpu", network=NETWORK, **settings).labels)
        == 3
    )


@pytest.mark.parametrize("bad", [np.zeros((4, 8, 8, 1), np.uint8), np.zeros((4, 1, 8, 8), np.float32)])
def test_other_arrays_are_refused_in_one_line(bad, tmp_path):
    with pytest.raises(UserError, match=r"give uint8 \(n, C, H, W\)"):
        condense(bad, np.zeros(4, int), folder=tmp_path)


@pytest.mark.parametrize("method", ["dsa", "idc", "kip", "mtt"])
def test_every_kind_of_method_condenses_arrays(method, tmp_path):
    _, images, labels = arrays()
    settings = {key: TINY[key] for key in ("network", "experts", "training", "real_batch")} | {"iterations": 2}
    if method == "mtt":
        settings |= {"teacher": {"length": 1, "start_max": 1}, "objectives": {"trajectory": {"steps": 2}}}
    made = condense(images, labels, method=method, ipc=2, folder=tmp_path, device="cpu", **settings)
    assert made.images.shape[1:] == (1, SIZE, SIZE) and made.metadata["budget_used"] <= made.metadata["budget"]
    assert ("learned" in made.metadata) == (method == "mtt")


@pytest.mark.parametrize("form", [lambda x: Image.fromarray(x[0]), torch.from_numpy, lambda x: torch.from_numpy(x).float() / 255])
def test_a_torch_dataset_is_condensed_as_its_arrays_are(form, tmp_path):
    _, images, labels = arrays()
    given = {"method": "random", "ipc": 2, "folder": tmp_path, "device": "cpu", "network": NETWORK}
    made, again = condense(Pairs(images, labels, form), **given), condense(images, labels, **given)
    assert torch.equal(made.images, again.images) and made.classes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (lambda x, y: x, "images: ndarray without labels; give labels too, or a map-style torch Dataset"),
        (lambda x, y: Pairs(x, y, lambda image: torch.from_numpy(image) - 2.0), r"images\[0\]: values are float32 from -2.0 to"),
        (lambda x, y: Pairs(x, y, lambda image: Image.fromarray(image[0]).convert("RGBA")), r"images\[0\]: a picture of mode RGBA; turn"),
        (lambda x, y: Pairs(x, y, lambda image: image[:, : 8 - image[0, 0, 0] % 2]), r"images\[\d+\]: \(1, \d, 8\), but images\[0\] is"),
        (lambda x, y: Pairs(x, ["cat"] * len(y), torch.from_numpy), r"images\[0\]: no pair of an image and a whole number \(invalid"),
    ],
)
def test_a_dataset_that_does_not_fit_is_one_line(given, line, tmp_path):
    _, images, labels = arrays()
    with pytest.raises(UserError, match=line) as error:
        condense(given(images, labels), method="dm", folder=tmp_path)
    assert "\n" not in str(error.value) and not [*tmp_path.iterdir()]


def test_more_experts_train_only_the_new_ones(tmp_path):
    _, images, labels = arrays()
    given = {"ipc": 2, "folder": tmp_path, "device": "cpu", **TINY, "iterations": 2}
    condense(images, labels, **given)
    before = {path: path.read_bytes() for path in tmp_path.glob("experts-*/shard-*.h5")}
    made = condense(images, labels, **{**given, "experts": 3})
    after = {path: path.read_bytes() for path in tmp_path.glob("experts-*/shard-*.h5")}
    assert len(before) == 2 and len(after) == 3 and before.items() <= after.items()
    assert made.metadata["spec"]["experts"] == {"total": 3}

"""Condensed sets: what goes in comes out; what is no condensed set is refused in one line; exports hold the images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from kornia.enhance import ZCAWhitening
from PIL import Image
from small import CLASSES, LATENT, SIZE, dataset, whitened

from esp_core import load_condensed, parametrisations
from esp_core.datasets import Dataset, Split
from esp_core.datasets.normalisation import Normalisation
from esp_core.distillation.condensed import check_data, save_condensed
from esp_core.distillation.export import export
from esp_core.parametrisations import Task
from esp_core.runtime import checksummed
from esp_core.runtime.errors import UserError

TASK = Task(CLASSES, 2, 1, SIZE, Normalisation(torch.tensor([0.4]), torch.tensor([0.3])))


@pytest.fixture(params=["pixels", "latent"])
def stored(request, tmp_path):
    settings = LATENT if request.param == "latent" else {"kind": "pixels"}
    synthetic = parametrisations.build(TASK, **settings)
    synthetic.initialise(torch.Generator().manual_seed(0), None)
    path = tmp_path / "set.safetensors"
    save_condensed(path, synthetic, settings, ("a", "b/c", "d"), {"seconds": 1.5})
    return path, synthetic


def test_round_trip(stored):
    path, synthetic = stored
    data = load_condensed(path)
    units = torch.arange(synthetic.units)
    torch.testing.assert_close(data.normalise(data.images), synthetic.decode(units).detach(), rtol=1e-5, atol=1e-5)
    assert data.labels.tolist() == synthetic.labels(units).tolist()
    assert data.images.dtype == torch.float32  # noise that nothing clamps stays outside [0, 1]
    assert (data.images.min() < 0) == (synthetic.tensors.keys() == {"pixels"})
    assert data.metadata["seconds"] == 1.5 and data.metadata["budget"] == CLASSES * 2 * SIZE**2 >= data.metadata["budget_used"]


def test_damage_is_one_line(stored, tmp_path):
    path, _ = stored
    content = path.read_bytes()
    for name, damaged in {"cut": content[: len(content) // 2], "empty": b"", "text": b"hello" * 50}.items():
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(UserError, match=f"{name}: damaged or not a condensed set"):
            load_condensed(tmp_path / name)
    with pytest.raises(UserError, match="no such file"):
        load_condensed(tmp_path / "none")


def test_export_holds_the_images(stored, tmp_path):
    path, _ = stored
    data = load_condensed(path)
    export(path, tmp_path / "npz", "npz")
    arrays = np.load(tmp_path / "npz" / "set.npz")
    assert abs(arrays["images"][..., 0] / 255 - data.images[:, 0].clamp(0, 1).numpy()).max() <= 0.5 / 255 + 1e-6
    assert arrays["labels"].tolist() == data.labels.tolist()
    export(path, tmp_path / "tree", "imagefolder")
    files = sorted((tmp_path / "tree" / "1-b_c").iterdir())
    assert len(files) == int((data.labels == 1).sum())
    first = int((data.labels == 1).nonzero()[0])
    assert (np.array(Image.open(files[0])) == arrays["images"][first, ..., 0]).all()
    with pytest.raises(UserError, match="not empty"):
        export(path, tmp_path / "tree", "png")


def data_like(task, classes, **changes):
    """A dataset that fits a set of `task` but for `changes`."""
    size, channels = changes.get("size", task.size), changes.get("channels", task.channels)
    split = Split(torch.zeros(2, channels, size, size, dtype=torch.uint8), torch.zeros(2, dtype=torch.long))
    mean, std = (changes.get(name, getattr(task.normalisation, name)) for name in ("mean", "std"))
    return Dataset("other", split, split, classes, Normalisation(mean, std), "digest")


@pytest.mark.parametrize(
    ("classes", "changes", "told"),
    [
        (("b/c", "a", "d"), {}, "its class 0 of 3 is 'a', that of the data other 'b/c'"),
        (("a", "b/c"), {}, "its class 2 of 3 is 'd', that of the data other 'missing'"),
        (("a", "b/c", "d", "e"), {}, "its class 3 of 3 is 'missing', that of the data other 'e'"),
        (("a", "b/c", "d"), {"size": 16}, r"its image shape is \(1, 8, 8\), that of the data other \(1, 16, 16\)"),
        (("a", "b/c", "d"), {"channels": 3, "mean": torch.zeros(3), "std": torch.ones(3)}, r"its image shape is \(1, 8, 8\)"),
        (("a", "b/c", "d"), {"std": torch.tensor([0.31])}, r"its normalisation's std is \[0.3\], that of the data other \[0.31\]"),
        (("a", "b/c", "d"), {"mean": torch.tensor([0.41])}, r"its normalisation's mean is \[0.4\], that of the data other \[0.41\]"),
    ],
)
def test_data_that_a_set_was_not_made_for_are_refused(stored, classes, changes, told):
    path, _ = stored
    condensed = load_condensed(path)
    check_data(path, condensed, data_like(TASK, ("a", "b/c", "d")))
    with pytest.raises(UserError, match=f"set.safetensors: {told}"):
        check_data(path, condensed, data_like(TASK, classes, **changes))


@pytest.fixture
def white(tmp_path):
    """A whitened set, and the data that it was made from."""
    data = whitened(dataset())
    synthetic = parametrisations.build(Task(CLASSES, 2, 1, SIZE, data.normalisation), kind="pixels")
    synthetic.tensors["pixels"] = data.normalise(data.train.images[:6])
    save_condensed(tmp_path / "set", synthetic, {"kind": "pixels"}, data.classes, {})
    return tmp_path / "set", data


def test_a_whitened_set_whitens_by_itself(white):
    path, data = white
    made = load_condensed(path)
    torch.testing.assert_close(made.images, data.train.images[:6] / 255, rtol=0, atol=1e-6)
    kornias = ZCAWhitening(eps=0.1).fit(data.train.images.float() / 255)
    assert torch.equal(made.normalise(data.test.images / 255), kornias(data.test.images / 255))
    assert made.metadata["budget_used"] == made.metadata["budget"] == 6 * SIZE**2
    check_data(path, made, data)


def test_a_set_of_one_space_is_refused_for_data_of_another(white, stored):
    (path, data), (other, _) = white, stored
    with pytest.raises(UserError, match="its normalisation is ZCA whitening, that of the data small by mean and standard deviation; give"):
        check_data(path, load_condensed(path), dataset())
    like = replace(data_like(TASK, ("a", "b/c", "d")), normalisation=data.normalisation)
    with pytest.raises(UserError, match="its normalisation is by mean and standard deviation, that of the data other ZCA whitening; give"):
        check_data(other, load_condensed(other), like)


@pytest.mark.parametrize("change", [{"zca_matrix": None}, {"zca_mean": None}, {"zca_mean": torch.zeros(3)}])
def test_half_a_whitening_is_damage(white, change):
    tensors, metadata = checksummed.read(white[0])
    checksummed.write(white[0], {name: t for name, t in {**tensors, **change}.items() if t is not None}, metadata)
    with pytest.raises(UserError, match="set: (damaged or not a condensed set .'zca_matrix'|its tensors do not fit)"):
        load_condensed(white[0])


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c", "d"), ("a", "b", 3)])
def test_a_set_without_a_name_for_each_class_is_damaged(classes, tmp_path):
    save_condensed(tmp_path / "set", parametrisations.build(TASK, kind="pixels"), {"kind": "pixels"}, classes, {})
    with pytest.raises(UserError, match="set: damaged or not a condensed set .no names for 3 classes"):
        load_condensed(tmp_path / "set")

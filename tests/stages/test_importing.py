"""Sets that other people's code made: known files are read, what does not fit is one line and nothing is written, ours go round."""

import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small import CLASSES, LATENT, NETWORK, SIZE, dataset

from esp_core import datasets, load_condensed, parametrisations
from esp_core.datasets import Dataset, Split
from esp_core.datasets.normalisation import Normalisation
from esp_core.distillation.condensed import check_data, save_condensed
from esp_core.distillation.export import export
from esp_core.parametrisations import Task
from esp_core.runtime.errors import UserError
from esp_core.stages import evaluate, import_set

RFAD = Path(__file__).resolve().parents[3] / "shared" / "data" / "third_party" / "rfad-cifar10-ipc-1.npz"
IMAGES = dataset().train.images[:6]  # two of each class
UNIT = IMAGES.float() / 255
NORMALISED = dataset().normalise(IMAGES)
LABELS = dataset().train.labels[:6]
SOFT = torch.nn.functional.one_hot(LABELS, CLASSES).float() - 0.1
BY_CLASS = LABELS.argsort(stable=True)


class Own:
    """An instance of a class is code to a pickle."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda *_: dataset())


@pytest.fixture
def imported(tmp_path):
    """A function that imports what it is given, files by name and their contents, and opens the set that was written."""

    def run(files, space="unit", ipc=2, **wish):
        for name, content in files.items():
            np.savez(tmp_path / name, **content) if name.endswith(".npz") else torch.save(content, tmp_path / name)
        out = tmp_path / "out" / "set.safetensors"
        spec = {"ipc": ipc, "space": space, "labels": "soft", "factor": 1, **wish}
        try:
            import_set.run(spec, [tmp_path / name for name in files], Path("data.h5"), out)
        except UserError as error:
            assert not out.parent.exists() and "\n" not in str(error)
            raise
        return load_condensed(out)

    return run


KNOWN = {
    "npz": ({"a.npz": {"images": UNIT.numpy(), "labels": LABELS.numpy(), "k": np.float32(2)}}, "unit"),
    "npz of bytes, channels last": ({"a.npz": {"images": IMAGES.permute(0, 2, 3, 1).numpy(), "labels": LABELS[:, None].numpy()}}, "unit"),
    "dc": (
        {"a.pt": {"data": [[UNIT, LABELS], [NORMALISED, LABELS]], "accs_all_exps": {"ConvNet": [np.float64(26.0), np.int64(3)]}}},
        "normalised",
    ),
    "mtt": ({"images_best.pt": NORMALISED, "labels_best.pt": LABELS, "lr_best.pt": torch.tensor(0.02)}, "normalised"),
    "idc": ({"data.pth": (UNIT, LABELS)}, "unit"),
    "grey without channels": ({"a.pt": {"images": UNIT[:, 0], "labels": LABELS}}, "unit"),
}


@pytest.mark.parametrize("known", KNOWN)
def test_known_files_are_read(imported, known):
    files, space = KNOWN[known]
    data = imported(files, space)
    torch.testing.assert_close(data.images, UNIT[BY_CLASS], rtol=0, atol=1e-6)
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2] and data.soft is None
    assert data.lr == (pytest.approx(0.02) if known == "mtt" else None)
    made = data.metadata
    assert made["budget_used"] == made["budget"] and made["space"] == space and made["files"].keys() == files.keys()


@pytest.mark.parametrize(("labels", "soft"), [("soft", SOFT), ("logits", SOFT.softmax(1)), ("hard", None)])
def test_soft_labels_are_taken_as_asked(imported, labels, soft):
    data = imported({"images.pt": UNIT, "labels.pt": SOFT}, labels=labels)
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.soft is None if soft is None else torch.equal(data.soft, soft[BY_CLASS])
    assert data.metadata["budget_used"] == UNIT.numel() + (0 if soft is None else soft.numel())


def test_small_images_are_cut_out_and_more_than_the_budget_is_told(imported, capsys):
    data = imported({"data.pt": [UNIT, LABELS]}, ipc=1, factor=2)
    formation = parametrisations.build(Task(CLASSES, 2, 1, SIZE, dataset().normalisation), kind="formation", factor=2)
    formation.tensors = {"pixels": NORMALISED[BY_CLASS]}
    torch.testing.assert_close(data.normalise(data.images), formation.decode(torch.arange(6)), rtol=0, atol=1e-5)
    assert (
        "24 images of 3 classes, 384 numbers of a budget of 192, more than that of IPC 1; deviation 1.02, of the data's 1.0"
        in capsys.readouterr().out
    )


GREY = {"labels.pt": LABELS}
NAN = UNIT.clone()
NAN[0, 0, 0, 0] = torch.nan
FOUR = torch.zeros(6, 4, SIZE, SIZE)


@pytest.mark.parametrize(
    ("files", "space", "told"),
    [
        ({"a.pt": Own()}, "unit", r"a.pt: holds a \S*Own, and is not opened; save images and labels as plain tensors"),
        ({"a.pt": (UNIT, torch.tensor([0, 1, 2, 0, 1, 3]))}, "unit", "image 5 has label 3, but there are 3 classes"),
        ({"a.pt": (FOUR, LABELS)}, "unit", r"images are float32 \(6, 4, 8, 8\); those of small are \(n, 1, 8, 8\)"),
        ({"a.pt": (NAN, LABELS)}, "unit", "images hold values that are not finite"),
        ({"a.pt": (UNIT, SOFT[:, :2])}, "unit", "labels of 2 classes, but the data have 3"),
        ({"a.pt": (UNIT, LABELS % 2)}, "unit", "no image of class c, of the 3 of small"),
        ({"a.pt": (UNIT, LABELS[:5])}, "unit", "5 labels for 6 images"),
        ({"a.pt": (UNIT, SOFT * torch.inf)}, "unit", "a label that is not finite or no whole number"),
        ({"a.pt": UNIT}, "unit", "a.pt: holds no labels; give the file of them, too"),
        ({"a.pt": UNIT, "b.pt": UNIT}, "unit", "b.pt: images a second time"),
        ({"a.pt": {"state": {}}}, "unit", "a.pt: damaged, cut short, pickled or of another format"),
        ({"a.npz": {"pictures": UNIT.numpy()}}, "unit", "a.npz: holds pictures; name the arrays images and labels"),
        ({"a.npz": {"images": np.array([Own()]), "labels": LABELS.numpy()}}, "unit", "a.npz: damaged, cut short, pickled"),
        ({"a.txt": UNIT}, "unit", "a.txt: of no known form; give an .npz, .pt or .pth file, or a folder"),
        ({"a.pt": UNIT, **GREY}, None, r"images are float32 from 0 to 0.97\d, deviation 0.\d+, as pixels are \(unit\); say what they are"),
        ({"a.pt": NORMALISED, **GREY}, None, r"as normalised or whitened ones are \(normalised, zca\); say what they are"),
        ({"a.pt": NORMALISED, **GREY}, "unit", r"no pixels in \[0, 1\], space unit: images are float32 from -1.\d+ to 3.\d+"),
        ({"a.pt": UNIT * 255, **GREY}, "unit", "from 0 to 24., deviation .*, as pixels of 0 to 255 are; divide them by 255"),
        ({"a.pt": UNIT, **GREY}, "normalised", "no images in space normalised, where the data's lie from -1.* as pixels are"),
        ({"a.pt": NORMALISED * 9, **GREY}, "normalised", "no images in space normalised, where the data's lie from -1"),
        ({"a.pt": NORMALISED, **GREY}, "zca", "space zca, but images of small are normalised; prepare the data with whiten"),
    ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(imported, files, space, told):
    with pytest.raises(UserError, match=told):
        imported(files, space)


def test_a_cut_file_and_a_missing_one_are_one_line(imported, tmp_path):
    torch.save((UNIT, LABELS), tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:1000])
    for name, told in {"cut.pt": "damaged or no file of torch", "none.pt": "no such file or folder"}.items():
        with pytest.raises(UserError, match=f"{name}: {told}"):
            import_set.run({"ipc": 1, "space": "unit", "labels": "soft", "factor": 1}, [tmp_path / name], Path("data.h5"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


PROTOCOL = {"epochs": 5, "lr": 0.05, "momentum": 0.9, "weight_decay": 0.0, "batch": 4, "augment": "none", "milestones": [], "gamma": 1.0}


def accuracies(path):
    spec = {"study_seed": 0, "dataset": "small", "ipc": 2, "method": "x", "network": NETWORK, "seeds": 2}
    rows = evaluate.run({**spec, "protocol": {"name": "dsa", **PROTOCOL}}, None, path)
    return [(row["accuracy"], row["curve"]) for row in rows]


@pytest.mark.parametrize(
    ("kind", "form", "space"),
    [("pixels", "npz", "unit"), ("pixels", "imagefolder", "unit"), ("pixels", "pt", "normalised"), ("latent", "pt", "normalised")],
)
def test_a_set_of_ours_goes_out_and_comes_in_again(tmp_path, kind, form, space):
    """Real images, of 8 bits, in every form; others with all their bits in a .pt."""
    task, settings = Task(CLASSES, 2, 1, SIZE, dataset().normalisation), LATENT if kind == "latent" else {"kind": "pixels"}
    synthetic = parametrisations.build(task, **settings)
    synthetic.initialise(torch.Generator().manual_seed(0), None)
    if kind == "pixels":
        synthetic.tensors = {"pixels": NORMALISED[BY_CLASS]}
    path, out = tmp_path / "set.safetensors", tmp_path / "again.safetensors"
    save_condensed(path, synthetic, settings, dataset().classes, {})
    export(path, tmp_path / "files", form)
    file = tmp_path / "files" / ("" if form == "imagefolder" else f"set.{form}")
    import_set.run({"ipc": 2, "space": space, "labels": "soft", "factor": 1}, [file], Path("data.h5"), out)
    one, other = load_condensed(path), load_condensed(out)
    torch.testing.assert_close(one.images, other.images, rtol=0, atol=1e-6)
    assert torch.equal(one.labels, other.labels) and accuracies(out) == accuracies(path)


def of_this_package(path, ipc=2):
    task = Task(CLASSES, ipc, 1, SIZE, dataset().normalisation)
    synthetic = parametrisations.build(task, **LATENT)
    synthetic.initialise(torch.Generator().manual_seed(0), None)
    soft = torch.rand(synthetic.images, CLASSES, generator=torch.Generator().manual_seed(1)).softmax(1)
    save_condensed(path, synthetic, LATENT, dataset().classes, {"learned": {"step_size": 0.03}, "code": "old"}, soft)
    return {"ipc": 2, "space": None, "labels": "soft", "factor": 1}


def test_a_file_of_this_package_is_taken_with_its_codes_and_what_it_says_of_itself(tmp_path):
    path, out = tmp_path / "set.safetensors", tmp_path / "again.safetensors"
    import_set.run(of_this_package(path), [path], Path("data.h5"), out, "new")
    one, other = load_file(path), load_file(out)
    assert one.keys() == other.keys() > {"labels"} and all(torch.equal(one[name], other[name]) for name in one)
    made = load_condensed(out)
    assert made.lr == 0.03 and made.metadata["code"] == "new"
    assert made.metadata["files"] == {path.name: sha256(path.read_bytes()).hexdigest()}
    assert accuracies(out) == accuracies(path)


def test_a_file_of_this_package_that_does_not_fit_is_one_line(tmp_path, monkeypatch):
    path, out = tmp_path / "set.safetensors", tmp_path / "none"
    spec = of_this_package(path)
    for ipc, files, told in ((3, [path], "set.safetensors: a set of IPC 2, wanted as one of IPC 3"), (2, [path] * 2, "is a whole set")):
        with pytest.raises(UserError, match=told):
            import_set.run({**spec, "ipc": ipc}, files, Path("data.h5"), out)
    monkeypatch.setattr(datasets, "load", lambda *_: replace(dataset(), classes=("b", "a", "c")))
    with pytest.raises(UserError, match="set.safetensors: its class 0 of 3 is 'a', that of the data small 'b'"):
        import_set.run(spec, [path], Path("data.h5"), out)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="set.safetensors: "):
        import_set.run(spec, [path], Path("data.h5"), out)
    assert not out.exists()


@pytest.mark.parametrize(("named", "told"), [(("c", "a", "b"), None), (("10", "2", "1"), None), (("a", "b", "x"), "are not the 3 classes")])
def test_folders_are_the_classes_by_name_or_by_number(tmp_path, named, told):
    order = {"c": 2, "a": 0, "b": 1, "10": 2, "2": 1, "1": 0, "x": 2}
    export_of = dict(zip(named, (order[name] for name in named), strict=True))
    for name, label in export_of.items():
        (tmp_path / "tree" / name).mkdir(parents=True)
        Image.fromarray(IMAGES[int((LABELS == label).nonzero()[0]), 0].numpy()).save(tmp_path / "tree" / name / "0.png")
    ask = {"ipc": 1, "space": "unit", "labels": "soft", "factor": 1}, [tmp_path / "tree"], Path("data.h5"), tmp_path / "set"
    if told:
        with pytest.raises(UserError, match=re.escape(told)):
            import_set.run(*ask)
        return
    import_set.run(*ask)
    torch.testing.assert_close(load_condensed(tmp_path / "set").images, UNIT[:3][LABELS[:3].argsort()], rtol=0, atol=1e-6)


@pytest.fixture
def rfad(monkeypatch):
    """RFAD's set, beside noise, and a whitening that leads to as large values as the real one does."""
    if not RFAD.is_file():
        pytest.skip("no published set at hand: RFAD's is looked for in ../shared/data/third_party")
    images = torch.randint(0, 256, (300, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = Split(images, torch.arange(300) % 10)
    normalisation = Normalisation.read([0.5] * 3, [0.2] * 3, {"zca_mean": torch.full((3072,), 0.5), "zca_matrix": 8 * torch.eye(3072)})
    data = Dataset("cifar10", split, split, tuple("abcdefghij"), normalisation, "")
    monkeypatch.setattr(datasets, "load", lambda *_: data)
    return {"ipc": 1, "labels": "soft", "factor": 1}, [RFAD], Path("data.h5")


def test_rfads_set_is_taken_as_whitened_and_refused_as_pixels(rfad, tmp_path):
    spec, *job = rfad
    import_set.run({**spec, "space": "zca"}, *job, tmp_path / "set")
    data, stored = load_condensed(tmp_path / "set"), np.load(RFAD)
    assert np.abs(data.normalise(data.images).numpy() - stored["images"]).max() < 1e-3
    assert np.array_equal(data.soft.numpy(), stored["labels"]) and data.labels.tolist() == list(range(10))
    for space, told in (
        ("unit", r"no pixels in \[0, 1\], space unit: images are float32 from -4.76 to 4.04, .* as normalised or whitened ones are"),
        ("normalised", "space normalised, but images of cifar10 are zca"),
        (None, "images are float32 from -4.76 to 4.04, .*; say what they are"),
    ):
        with pytest.raises(UserError, match=told):
            import_set.run({**spec, "space": space}, *job, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_set_of_one_whitening_is_refused_under_another(rfad, tmp_path):
    spec, *job = rfad
    import_set.run({**spec, "space": "zca"}, *job, tmp_path / "set")
    made, data = load_condensed(tmp_path / "set"), datasets.load()
    check_data(tmp_path / "set", made, data)
    other = {"zca_mean": torch.full((3072,), 0.5), "zca_matrix": 7 * torch.eye(3072)}
    with pytest.raises(UserError, match="set: its whitening is of one kind, that of the data cifar10 of another"):
        check_data(tmp_path / "set", made, replace(data, normalisation=Normalisation.read([0.5] * 3, [0.2] * 3, other)))

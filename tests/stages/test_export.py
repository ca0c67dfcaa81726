"""Class names become folders that our own reader, and torchvision's rule, give the same labels again, and nothing lies elsewhere."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from esp_core import parametrisations
from esp_core.datasets.imagefolder import read
from esp_core.datasets.source import Request
from esp_core.distillation.condensed import save_condensed
from esp_core.distillation.export import export, folder_names
from esp_core.parametrisations import Task

SIZE = 4
HARD = [*". .. / /etc a/b a\\b a_b A_b con NUL com1 train Test val -rf ~ é e\u0301 日本".split(), "", "a b", "x" * 300]
NAMES = st.lists(st.one_of(st.sampled_from(HARD), st.text(max_size=8), st.integers(0, 2000).map(str)), min_size=2, max_size=12, unique=True)


def stored(folder, classes):
    """A condensed set of one image a class whose brightness is its label."""
    task = Task(len(classes), 1, 1, SIZE)
    synthetic = parametrisations.build(task, kind="pixels")
    labels = torch.arange(len(classes)).view(-1, 1, 1, 1)
    synthetic.tensors["pixels"] = (labels / 255).expand(-1, 1, SIZE, SIZE).contiguous()
    save_condensed(folder / "set.safetensors", synthetic, {"kind": "pixels"}, tuple(classes), {})
    return folder / "set.safetensors"


def read_again(tree):
    """Labels of all images by the brightness that they have."""
    source = read(Request("again"), path=str(tree), test_fraction=0.5)
    parts = (source.train, source.test)
    found = np.concatenate([part.labels for part in parts]), np.concatenate([part.images[:, 0, 0, 0] for part in parts])
    return source.classes, dict(zip(*(values.tolist() for values in found), strict=True))


@given(NAMES)
@example(["x", "", "y"])
@example([str(i) for i in range(12)])
@example(["a b", "a_b"])
@example(["cat", "Cat"])
@example(["cat", "dog", "train"])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_class_names_make_a_tree_that_our_reader_labels_the_same(classes):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = stored(folder, classes)
        for _ in range(2):  # an image of each class for either part
            export(path, folder / "tree", "imagefolder")
            (folder / "tree").rename(folder / f"tree{_}")
        for image in (folder / "tree1").rglob("*.png"):
            image.rename(folder / "tree0" / image.parent.name / "second.png")
        names, labels = read_again(folder / "tree0")
        assert labels == {label: label for label in range(len(classes))}
        assert names == folder_names(classes)
        assert {p.name for p in folder.iterdir()} == {"set.safetensors", "tree0", "tree1"}
        assert len({n.casefold() for n in names}) == len(classes) and all(len(n.encode()) < 200 for n in names)


def test_names_that_can_be_folders_stay_as_they_are():
    for classes in (("cat", "dog"), ("airplane", "automobile", "bird"), tuple("0123456789")):
        assert folder_names(classes) == classes


@pytest.mark.parametrize(
    ("classes", "folders"),
    [
        (["b", "a/c"], ("0-b", "1-a_c")),
        (["cat", "Cat"], ("0-cat", "1-Cat")),
        ([str(i) for i in range(12)], (*(f"0{i}-{i}" for i in range(10)), "10-10", "11-11")),
        (["x", "", "y"], ("0-x", "1-", "2-y")),
        (["aux", "cat"], ("0-aux", "1-cat")),
    ],
)
def test_others_are_numbered(classes, folders):
    assert folder_names(classes) == folders


def test_png_files_lie_in_the_folder_whatever_the_classes_are_called(tmp_path):
    export(stored(tmp_path, ["/", "..", ""]), tmp_path / "out", "png")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["00000-0-_.png", "00001-1-__.png", "00002-2-.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "set.safetensors"]

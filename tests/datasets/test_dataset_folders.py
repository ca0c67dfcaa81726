"""The user's own folders of images: which are parts and which are classes, what is left out or refused, and what the log says about it."""

import os
import shutil
from collections import Counter

import pytest
import torch
from dataset_files import everything, fill, left_in, put

from esp_core import datasets
from esp_core.datasets.identity import identity
from esp_core.study.config import Study
from esp_core.study.job_specs import spec as spec_of


@pytest.mark.parametrize(
    ("train", "test"), [("Training", "Testing"), ("training_set", "test images"), ("Train2017", "Val2017"), ("trainset", "Dev")]
)
def test_parts_are_known_by_their_usual_names(root, read, train, test):
    fill(root, train), fill(root, test, count=1)
    data = read()
    values = [sorted(split.images[:, 0, 0, 0].tolist()) for split in (data.train, data.test)]
    assert data.classes == ("a", "b") and values == [[1, 2, 3, 4, 5, 6], [1, 2]]


@pytest.mark.parametrize(
    ("more", "sizes", "lines"),
    [
        ({"valid": 2}, (6, 4), ["4 images in valid taken as test images, since there is no folder test"]),
        (
            {"Validation": 2, "test": 1, "extra/deep": 4},
            (6, 2),
            ["4 images in Validation left out, beside train and test", "8 images in extra left out, beside train and test"],
        ),
        ({"test": 1, "train/a/more": 1}, (8, 2), ["2 images in folders inside a class folder, taken for that class"]),
        (
            {"test": 1, "cover.png": 0, "train/loose.png": 0, "test/loose.png": 0},
            (6, 2),
            ["3 images outside the class folders left out"],
        ),
    ],
)
def test_what_is_left_out_or_taken_otherwise_is_counted(root, read, said, more, sizes, lines):
    fill(root, "train")
    for name, count in more.items():
        put(root / name) if name.endswith(".png") else fill(root, name, count=count)
    data = read()
    assert (len(data.train), len(data.test)) == sizes and said()[3:] == lines


def test_a_class_named_train_among_others_is_a_class(root, read, said):
    """As in CIFAR-100 and PASCAL VOC."""
    classes = ("bus", "car", "train")
    put(*(root / name / f"{i}.png" for name in classes for i in range(4)))
    data = read(test_fraction=0.25)
    assert data.classes == classes and torch.bincount(data.train.labels).tolist() == [3, 3, 3]
    assert "4 images in train, taken for a class: it holds no class folders and lies beside others" in said()
    shutil.move(root, root.with_name("train"))
    put(*(root / "test" / name / "0.png" for name in classes))
    shutil.move(root.with_name("train"), root / "train")
    assert read().classes == classes


REFUSED = [
    (
        "train/a/1 train/b/1 test/1 test/2",
        {},
        "{root}/test: 2 images lie in it without class folders; sort them into {root}/test/<class> or remove the folder",
    ),
    ("train/a/1 Training/a/1", {}, "{root}: Training and train both look like training images; keep one of them"),
    ("a/1 b/1 test/1", {}, "{root}: holds test but no folder train; move the training classes into one, or rename test if a class"),
    (
        "training_set/training_set/a/1 test_set/test_set/a/1",
        {},
        "{root}/training_set/training_set: looks like a part, not like a class; move the folders in it to where it lies",
    ),
    ("a/train/1 a/test/1", {}, "{root}/a/test: a part inside a class; put the parts first, as in train/<class> and test/<class>"),
    ("train/a/1 train/b/1 val/a/1", {}, "{root}/val/b: class b has no image here; add some or remove the class"),
    ("train/a/1 train/b/1 test/c/1", {}, "{root}/test/c: no training folder has this name; rename or remove it"),
    (".hidden/1", {}, "{root}: holds no class folders; put the images of each class into a folder of its own"),
    ("", {}, "{root}: no such folder; correct options.path of dataset mine"),
    ("a/1 a/2 b/1", {}, "class b: one image cannot be split into two parts; add images or give the test part yourself"),
    (
        "train/a/1 train/b/1 test/a/1 test/b/1",
        {"test_fraction": 0.1},
        "dataset mine: options.test_fraction has no meaning, since {root}/test holds test images; remove it",
    ),
    ("a/1", {"mode": ["L"]}, "dataset mine: options.mode: ['L'] is unknown; allowed: RGB, L, null"),
]


@pytest.mark.parametrize(("files", "options", "line"), REFUSED)
def test_folders_that_cannot_be_told_are_refused(root, prepare, line_of, tmp_path, files, options, line):
    put(*(root / f"{name}.png" for name in files.split()))
    assert line_of(prepare, "imagefolder", path=str(root), **options) == line.format(root=root)
    assert left_in(tmp_path / "out") == []


# What is no image of a class.


def test_hidden_unknown_and_unreadable_entries_are_left_out_and_counted(root, read, said):
    fill(root, "", count=4)
    for folder in (root / "__MACOSX" / "a", root / "a" / ".ipynb_checkpoints", root / "b" / "@eaDir", root / ".git" / "a"):
        put(folder / "9.png")
    put(root / "a" / "._0.png", root / "b" / ".DS_Store")
    for name in ("notes.txt", "more.TXT", "photo.heic", "README"):
        (root / "a" / name).write_text("no image")
    (root / "b" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "b" / "circle.png").symlink_to(root / "b" / "circle.png")
    (root / "b" / "everything").symlink_to("/", target_is_directory=True)
    os.mkfifo(root / "b" / "pipe.png")
    (root / "everything").symlink_to(root.parent, target_is_directory=True)
    data = read()
    assert data.classes == ("a", "b") and sorted(everything(data)[:, 0, 0, 0].tolist()) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert Counter(said()[3:]) == Counter(
        [
            "6 hidden files and folders left out",
            "2 files ending in .txt left out, no known images",
            "1 files ending in .heic left out, no known images",
            "1 files without an ending left out, no known images",
            "5 links and special files left out",
        ]
    )


def test_a_class_folder_may_be_a_link_and_its_name_is_text(root, read, prepare, line_of, tmp_path):
    fill(tmp_path / "elsewhere", "")
    fill(root, "")
    shutil.rmtree(root / "b")
    (root / "b").symlink_to(tmp_path / "elsewhere" / "b", target_is_directory=True)
    assert read().classes == ("a", "b")
    (root / os.fsdecode(b"\xff\xfe")).mkdir()
    assert line_of(prepare, "imagefolder", path=str(root)) == f"{root}: the name of folder '\\udcff\\udcfe' is no text; rename it"


# What images hold.


def test_the_made_split_is_a_function_of_the_seed(root, prepare, tmp_path):
    fill(root, "", count=10)
    first, again, other = (
        datasets.load(prepare("imagefolder", out=tmp_path / f"{i}.h5", seed=seed, path=str(root), test_fraction=0.3))
        for i, seed in enumerate((0, 0, 1))
    )
    assert torch.bincount(first.test.labels).tolist() == [3, 3] and sorted(everything(first)[:, 0, 0, 0].tolist()) == list(range(1, 21))
    assert first.digest == again.digest and not torch.equal(first.test.images, other.test.images)


def test_an_identity_tells_what_is_read_and_nothing_else(root):
    fill(root, "train", "test")
    file, known = root / "train" / "a" / "0.png", set()

    def now(new):
        known_before = len(known)
        known.add(identity("imagefolder", {"path": str(root)}))
        assert (len(known) > known_before) == new

    now(True)
    put(root / "train" / "a" / ".hidden.png", root / "valid" / "a" / "0.png")
    (root / "train" / "a" / "notes.txt").write_text("more")
    now(False)  # none of this is read
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    now(True)
    times = file.stat()
    file.write_bytes(file.read_bytes() + b" ")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    now(True)
    file.rename(file.with_name("new.png"))
    now(True)
    (root / "train" / "c").mkdir()
    now(True)  # a class without images is refused, whatever was there before
    put(root / "train" / "c" / "0.png", root / "test" / "c" / "0.png")
    now(True)
    shutil.rmtree(root / "test")
    now(True)  # the validation images are read
    shutil.rmtree(root)
    assert identity("imagefolder", {"path": str(root)}) is None


def test_a_jobs_spec_holds_the_identity_of_the_users_own_files_alone(root, tmp_path):
    fill(root, "")
    own = tmp_path / "own.npz"
    own.write_bytes(b"1")

    def specs():
        given = {
            "folder": {"kind": "imagefolder", "options": {"path": str(root)}},
            "file": {"kind": "npz", "options": {"path": str(own)}},
            "torchvision": {"kind": "torchvision_class", "options": {"name": "ImageFolder", "arguments": {"root": str(root)}}},
            "fake": {"kind": "torchvision_class", "options": {"name": "FakeData"}},
            "digits": {},
        }
        study = Study({"study": "s", "methods": {"random": {}}, "datasets": {name: {"ipc": [1], **part} for name, part in given.items()}})
        return {name: spec_of(study, "prepare", name) for name in given}

    before = specs()
    assert {name for name, spec in before.items() if "own" in spec} == {"folder", "file", "torchvision"}
    assert specs() == before
    put(root / "a" / "9.png")
    os.utime(own, (0, 0))  # an older file in its place
    assert {name for name, spec in specs().items() if spec != before[name]} == {"folder", "file", "torchvision"}

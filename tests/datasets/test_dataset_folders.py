"""Which folders are parts and which are classes, what is left out of them, and what the log says about it."""

import os
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from dataset_files import left_in, save
from PIL import Image

from esp_core import datasets
from esp_core.datasets.identity import identity
from esp_core.study.config import Study
from esp_core.study.specs import spec as spec_of


@pytest.fixture
def root(tmp_path):
    return tmp_path / "photos"


@pytest.fixture
def said(capsys):
    """The lines of the log but those of progress."""

    def lines():
        return [line.removeprefix("mine: ") for line in capsys.readouterr().err.splitlines() if "images/s" not in line]

    return lines


def put(*files):
    """Grey images of 4 x 4 whose upper left pixel tells them apart."""
    for value, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((4, 4), np.uint8)
        pixels[0, 0] = value + 1
        Image.fromarray(pixels).save(file, "PNG")


def fill(root, part, classes="ab", count=3):
    put(*(root / part / name / f"{i}.png" for name in classes for i in range(count)))


def images(split):
    return sorted(split.images[:, 0, 0, 0].tolist())


# Parts.


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("TRAIN", "Test"),
        ("training_set", "test_set"),
        ("train-images", "test images"),
        ("Train2017", "Val2017"),
        ("trainset", "Dev"),
        ("train", "eval"),
    ],
)
def test_parts_are_known_by_their_usual_names(root, prepare, train, test):
    fill(root, train), fill(root, test, count=1)
    data = datasets.load(prepare("imagefolder", path=str(root)))
    assert data.classes == ("a", "b") and (images(data.train), images(data.test)) == ([1, 2, 3, 4, 5, 6], [1, 2])


def test_validation_images_are_the_test_images_where_there_are_no_others(root, prepare, said):
    fill(root, "train"), fill(root, "valid", count=2)
    data = datasets.load(prepare("imagefolder", path=str(root)))
    assert len(data.test) == 4
    assert said() == [
        "2 classes",
        "6 training images, 3 a class",
        "4 test images, 2 a class",
        "4 images in valid taken as test images, since there is no folder test",
    ]


def test_validation_images_beside_test_images_and_other_folders_are_left_out_and_counted(root, prepare, said):
    fill(root, "train"), fill(root, "Validation", count=2), fill(root, "test", count=1), fill(root, "extra/deep", count=4)
    (root / "docs").mkdir()
    put(root / "cover.png", root / "train" / "loose.png", root / "test" / "loose.png")
    data = datasets.load(prepare("imagefolder", path=str(root)))
    assert (len(data.train), len(data.test)) == (6, 2)
    assert {
        "4 images in Validation left out, beside train and test",
        "8 images in extra left out, beside train and test",
        "3 images outside the class folders left out",
    } == {*said()[3:]}


def test_a_class_named_train_among_others_is_a_class(root, prepare, said):
    """As in CIFAR-100 and PASCAL VOC."""
    fill(root, ".", ("bus", "car", "train"), count=4)
    data = datasets.load(prepare("imagefolder", path=str(root), test_fraction=0.25))
    assert data.classes == ("bus", "car", "train") and torch.bincount(data.train.labels).tolist() == [3, 3, 3]
    assert "4 images in train, taken for a class: it holds no class folders and lies beside others" in said()
    shutil.move(root, root.with_name("train"))
    put(*(root / "test" / name / "0.png" for name in ("bus", "car", "train")))
    shutil.move(root.with_name("train"), root / "train")
    assert datasets.load(prepare("imagefolder", path=str(root))).classes == ("bus", "car", "train")


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (
            ("train/a/1", "train/b/1", "test/1", "test/2"),
            "{root}/test: 2 images lie in it without class folders; sort them into {root}/test/<class> or remove the folder",
        ),
        (
            ("train/1", "test/1"),
            "{root}/train: 1 images lie in it without class folders; sort them into {root}/train/<class> or remove the folder",
        ),
        (("train/a/1", "Training/a/1"), "{root}: Training and train both look like training images; keep one of them"),
        (("train/a/1", "val/a/1", "dev/a/1"), "{root}: dev and val both look like validation images; keep one of them"),
        (
            ("a/1", "b/1", "test/1"),
            "{root}: holds test but no folder train; move the training classes into one, or rename test if a class",
        ),
        (
            ("test/a/1", "valid/a/1"),
            "{root}: holds test but no folder train; move the training classes into one, or rename test if a class",
        ),
        (
            ("training_set/training_set/a/1", "test_set/test_set/a/1"),
            "{root}/training_set/training_set: looks like a part, not like a class; move the folders in it to where it lies",
        ),
        (
            ("a/train/1", "a/test/1", "b/train/1", "b/test/1"),
            "{root}/a/test: a part inside a class; put the parts first, as in train/<class> and test/<class>",
        ),
        (("train/a/1", "train/b/1", "val/a/1"), "{root}/val/b: class b has no image here; add some or remove the class"),
    ],
)
def test_parts_that_cannot_be_told_are_refused(root, prepare, line_of, tmp_path, files, line):
    put(*(root / f"{name}.png" for name in files))
    assert line_of(prepare, "imagefolder", path=str(root)) == line.format(root=root)
    assert left_in(tmp_path / "out") == []


# What is no image of a class.


def test_hidden_unknown_and_unreadable_entries_are_left_out_and_counted(root, prepare, said):
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
    data = datasets.load(prepare("imagefolder", path=str(root)))
    assert data.classes == ("a", "b") and sorted(images(data.train) + images(data.test)) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert Counter(said()[3:]) == Counter(
        [
            "6 hidden files and folders left out",
            "2 files ending in .txt left out, no known images",
            "1 files ending in .heic left out, no known images",
            "1 files without an ending left out, no known images",
            "5 links and special files left out",
        ]
    )


def test_images_of_folders_inside_a_class_are_taken_and_counted(root, prepare, said):
    fill(root, "train"), fill(root, "test", count=1)
    put(root / "train" / "a" / "more" / "1.png", root / "train" / "a" / "more" / "and more" / "2.png")
    assert len(datasets.load(prepare("imagefolder", path=str(root))).train) == 8
    assert said()[3:] == ["2 images in folders inside a class folder, taken for that class"]


def test_a_class_folder_may_be_a_link(root, prepare, tmp_path):
    fill(tmp_path / "elsewhere", "", "b")
    fill(root, "", "a")
    (root / "b").symlink_to(tmp_path / "elsewhere" / "b", target_is_directory=True)
    assert datasets.load(prepare("imagefolder", path=str(root))).classes == ("a", "b")


def test_a_folder_whose_name_is_no_text(root, prepare, line_of):
    fill(root, "", "ab")
    (root / os.fsdecode(b"\xff\xfe")).mkdir()
    assert line_of(prepare, "imagefolder", path=str(root)) == f"{root}: the name of folder '\\udcff\\udcfe' is no text; rename it"


# What images hold beside their pixels.


def hidden_colours(root, mode, count=4):
    """White at alpha 0, with other colours under it, black at alpha 255; the first pixel tells the image."""
    for name in "ab":
        for i in range(count):
            pixels = np.zeros((4, 4, 4), np.uint8)
            pixels[:, :2] = (9, 200, 77, 0)
            pixels[:, 2:] = (0, 0, 0, 255)
            pixels[0, 0] = (0, 0, 255, 255 * i // 3)
            image = Image.fromarray(pixels, "RGBA").convert(mode) if mode != "P" else Image.fromarray(pixels, "RGBA").quantize()
            (root / name).mkdir(parents=True, exist_ok=True)
            image.save(root / name / f"{i}.png")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white_and_counted(root, prepare, said, mode):
    """alpha * colour + (1 - alpha) * 255, for each channel."""
    hidden_colours(root, mode)
    data = datasets.load(prepare("imagefolder", path=str(root), mode="RGB", test_fraction=0.5))
    made = torch.cat([data.train.images, data.test.images])
    assert torch.all(made[:, :, 1:, :2] == 255) and torch.all(made[:, :, :, 2:] == 0)
    blue = 255 if mode != "LA" else 29  # 0.114 * 255, grey
    wanted = [round((255 * i // 3) / 255 * (0 if mode != "LA" else blue) + (1 - (255 * i // 3) / 255) * 255) for i in range(4)]
    assert np.abs(np.array(sorted(made[:, 0, 0, 0].tolist())) - sorted(wanted * 2)).max() <= 1
    assert said()[3:] == ["8 images with transparency, laid on white"]


def of_each(root, ending, make, **options):
    """Two images in either of two classes."""
    for name in "ab":
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(2):
            make(i).save(root / name / f"{i}.{ending}", **options)


def test_a_colour_that_stands_for_transparency_is_laid_on_white_too(root, prepare, said):
    """The tRNS chunk of a PNG without alpha: the mode stays RGB, and so no conversion is asked for."""

    def make(i):
        image = Image.new("RGB", (4, 4), (1, 2, 3))
        image.putpixel((0, 0), (200, 100, 50 * i))
        return image

    of_each(root, "png", make, transparency=(1, 2, 3))
    data = datasets.load(prepare("imagefolder", path=str(root), test_fraction=0.5))
    made = torch.cat([data.train.images, data.test.images])
    assert torch.all(made[:, :, 1:] == 255) and {tuple(image[:, 0, 0].tolist()) for image in made} == {(200, 100, 0), (200, 100, 50)}
    assert said()[3:] == ["4 images with transparency, laid on white"]


def test_an_opaque_alpha_channel_is_nothing_to_speak_of(root, prepare, said):
    of_each(root, "png", lambda i: Image.new("RGBA", (4, 4), (50 * i, 2 * i, 3 * i, 255)))
    data = datasets.load(prepare("imagefolder", path=str(root), mode="RGB", test_fraction=0.5))
    assert sorted(images(data.train) + images(data.test)) == [0, 0, 50, 50]
    assert len(said()) == 3


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP"])
def test_of_several_frames_the_first_is_taken_and_counted(root, prepare, said, kind):
    def make(i):
        image = Image.new("RGB", (4, 4), (40 + 20 * i,) * 3)
        image.putpixel((3, 3), (0, 0, 0))
        return image

    more = {"lossless": True} if kind == "WEBP" else {}
    later = [Image.new("RGB", (4, 4), (value,) * 3) for value in (200, 250)]
    of_each(root, kind.lower(), make, format=kind, save_all=True, append_images=later, **more)
    data = datasets.load(prepare("imagefolder", path=str(root), mode="L", test_fraction=0.5))
    assert sorted(images(data.train) + images(data.test)) == [40, 40, 60, 60]
    assert said()[3:] == ["4 images with several frames, of which the first is taken"]


# Arrays.


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_arrays_that_are_left_out_are_said_and_validation_stands_in_for_test(tmp_path, prepare, said, kind):
    content = {name: np.random.default_rng(i).integers(0, 256, (6, 4, 4), np.uint8) for i, name in enumerate(("train", "val", "test"))}
    arrays = {f"{name}_images": values for name, values in content.items()} | {f"{name}_labels": np.arange(6) % 2 for name in content}
    save(kind, tmp_path / "three", **arrays, weights=np.ones(6))
    data = datasets.load(prepare(kind, path=str(tmp_path / "three")))
    np.testing.assert_array_equal(data.test.images[:, 0].numpy(), content["test"])
    assert said()[3:] == [
        "1 array left out: val_images",
        "1 array left out: val_labels",
        "1 array left out: weights",
    ]
    save(kind, tmp_path / "two", **{name: values for name, values in arrays.items() if not name.startswith("test")})
    data = datasets.load(prepare(kind, path=str(tmp_path / "two")))
    np.testing.assert_array_equal(data.test.images[:, 0].numpy(), content["val"])
    assert said()[3:] == ["6 images of val_images taken as test images, since there are no others"]
    options = {"images": "val_images", "labels": "val_labels"}
    data = datasets.load(prepare(kind, path=str(tmp_path / "two"), **options))
    assert (len(data.train), len(data.test)) == (4, 2)  # not tested on what it is trained on


@pytest.mark.parametrize(
    ("kind", "options", "line"),
    [
        ("imagefolder", {"path": 5}, "options.path: 5 is not text; put it in quotes"),
        (
            "imagefolder",
            {"path": "x", "test_fraction": "0.2"},
            "options.test_fraction: '0.2' is not a number or null; YAML 1.1 reads 0.2 as text, write 0.2",
        ),
        ("imagefolder", {"path": "x", "mode": ["L"]}, "options.mode: ['L'] is unknown; allowed: RGB, L, null"),
        ("npz", {"path": "x", "classes": "cat"}, "options.classes: 'cat' is not a list or null"),
        ("tinyimagenet", {"sample": "no"}, "options.sample: 'no' is not true or false"),
        ("torchvision_class", {"name": "FakeData", "arguments": "size"}, "options.arguments: 'size' is not a mapping or null"),
    ],
)
def test_options_of_another_type_are_named(prepare, line_of, kind, options, line):
    assert line_of(prepare, kind, **options) == f"dataset mine: {line}"


def test_the_home_of_an_unknown_user(prepare, line_of):
    line = "~nobody-of-this-name/x: no such folder; correct options.path of dataset mine"
    assert line_of(prepare, "imagefolder", path="~nobody-of-this-name/x") == line


# A folder's identity.


def test_an_identity_tells_what_is_read_and_nothing_else(root, tmp_path):
    fill(root, "train"), fill(root, "test")
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

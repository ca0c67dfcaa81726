"""The prepared file: exact statistics, its content, and what is refused."""

import errno
import re
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from dataset_files import left_in
from kornia.enhance import ZCAWhitening

from esp_core import datasets
from esp_core.datasets import store
from esp_core.datasets.source import Part, Source
from esp_core.runtime.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def made(count=40, shape=(3, 4, 4), classes=4, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, *shape), np.uint8), np.arange(count, dtype=np.int64) % classes


def source(images=None, labels=None, classes="abcd", test=None, **changes):
    default_images, default_labels = made()
    images = default_images if images is None else images
    train = Part("here", images, default_labels if labels is None else labels)
    test = Part("there", *made(8, images.shape[1:])) if test is None else test
    return Source(tuple(classes), **{"train": train, "test": test, "origin": {}, **changes})


def test_mean_and_std_are_those_of_float64(tmp_path):
    images, _ = made()
    store.write(tmp_path / "a.h5", "a", source(), {})
    scaled = images.astype(np.float64) / 255
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_allclose(file.attrs["mean"], scaled.mean((0, 2, 3)), rtol=1e-14)
        np.testing.assert_allclose(file.attrs["std"], scaled.std((0, 2, 3)), rtol=1e-13)


def test_sums_of_many_bright_images_are_exact():
    """Their sum of squares times their number is more than 64 bits hold."""
    images = np.full((150_001, 1, 16, 16), 255, np.uint8)
    images[-1] = 254
    share = 1 / len(images)
    mean, std = store.moments(images)
    assert mean[0] == pytest.approx(1 - share / 255, rel=1e-15)
    assert std[0] == pytest.approx((share * (1 - share)) ** 0.5 / 255, rel=1e-12)


def test_content_comes_back(tmp_path):
    images, labels = made()
    test_images, test_labels = made(8)
    parts = source(train=Part("here", images, labels), test=Part("there", test_images, test_labels))
    store.write(tmp_path / "a.h5", "a", parts, {"spec": "{}"})
    data = datasets.load(tmp_path / "a.h5")
    assert torch.equal(data.train.images, torch.from_numpy(images)) and data.train.images.dtype == torch.uint8
    assert torch.equal(data.train.labels, torch.from_numpy(labels)) and data.train.labels.dtype == torch.int64
    assert torch.equal(data.test.images, torch.from_numpy(test_images))
    assert (data.name, data.shape, data.classes) == ("a", (3, 4, 4), tuple("abcd"))


def test_the_lines_that_open_a_file_with_h5py_alone(tmp_path, monkeypatch):
    lines = re.search("```python\n(import h5py.*?)```", (ROOT / "results" / "README.md").read_text(), re.DOTALL)[1]
    path = tmp_path / re.search('File\\("(.*)"\\)', lines)[1]
    store.write(path, "a", source(), {})
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(lines, found)
    np.testing.assert_array_equal(found["images"], made()[0])
    np.testing.assert_array_equal(found["labels"], made()[1])
    assert list(found["classes"]) == ["a", "b", "c", "d"] and len(found["mean"]) == len(found["std"]) == 3


def test_digest_depends_on_content_alone(tmp_path):
    def digest(name, provenance, content):
        store.write(tmp_path / name, "a", content, provenance)
        return datasets.load(tmp_path / name).digest

    first = digest("a.h5", {"spec": "1"}, source())
    images, labels = made()
    turned = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)  # the same images, laid out otherwise
    assert digest("b.h5", {"spec": "2"}, source(images=turned)) == first == "d33a81a99c76fda4"
    images[-1, 0, 0, 0] ^= 1
    assert digest("c.h5", {"spec": "1"}, source(images=images)) != first
    labels[[0, 1]] = labels[[1, 0]]
    assert digest("d.h5", {"spec": "1"}, source(labels=labels)) != first


def test_whitening_is_kornias_and_changes_the_digest(tmp_path):
    for name, whiten in (("a.h5", None), ("b.h5", "zca")):
        store.write(tmp_path / name, "a", source(), {}, whiten=whiten)
    plain, white = (datasets.load(tmp_path / name) for name in ("a.h5", "b.h5"))
    assert plain.normalisation.zca is None and plain.digest == "d33a81a99c76fda4" != white.digest
    images = torch.from_numpy(made()[0])
    expected = ZCAWhitening(eps=0.1).fit(images.float() / 255)(white.test.images.float() / 255)
    assert torch.equal(white.normalise(white.test.images), expected)
    held = white.holdout(0.5, seed=0)
    assert torch.equal(held.normalise(white.test.images), expected)


def test_images_too_large_to_whiten_are_refused_in_one_line(tmp_path):
    images = made(shape=(3, 37, 37))[0]
    with pytest.raises(UserError, match=r"^here: images of 4,107 numbers would need a whitening matrix of 67 MB .*at most 4,096 numbers$"):
        store.write(tmp_path / "a.h5", "a", source(images=images, test=Part("there", images, made()[1])), {}, whiten="zca")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"labels": np.r_[np.arange(39) % 4, 4]},
            "here: image 39 has label 4, but there are 4 classes, 0 to 3; correct the label or name the missing classes",
        ),
        (
            {"labels": np.r_[-1, np.arange(39) % 4]},
            "here: image 0 has label -1, but there are 4 classes, 0 to 3; correct the label or name the missing classes",
        ),
        ({"labels": np.arange(40) % 3}, "here: class d has no training image; add some or remove the class"),
        ({"images": made(shape=(3, 4, 5))[0]}, "here: images are 4 x 5; only square ones can be condensed, so crop or resize them"),
        (
            {"test": Part("there", *made(8, (1, 4, 4)))},
            "there: images have shape (1, 4, 4), but those for training (3, 4, 4); make them alike",
        ),
        (
            {"images": np.concatenate([made()[0], np.full((40, 1, 4, 4), 9, np.uint8)], 1)},
            "here: channel 3 has one value in every training image; leave that channel out",
        ),
        ({"test": Part("there", *made(0))}, "there: no images"),
        ({"classes": "aacd"}, "mine: two or more classes with different names are needed; these are a, a, c, d"),
    ],
)
def test_bad_content_is_one_line_and_leaves_what_was_there(tmp_path, changes, line):
    path = tmp_path / "mine.h5"
    store.write(path, "mine", source(), {})
    before = path.read_bytes()
    with pytest.raises(UserError) as raised:
        store.write(path, "mine", source(**changes), {})
    assert str(raised.value) == line
    assert path.read_bytes() == before and left_in(tmp_path) == ["mine.h5"]


def test_a_disk_that_fills_up_or_is_read_only_is_one_line(small_disk):
    images, labels = made(4000, (1, 16, 16))
    path = small_disk / "mine.h5"
    with pytest.raises(UserError) as raised:
        store.write(path, "mine", source(images=images, labels=labels), {})
    assert str(raised.value) == f"{path}: the disk is full: free some space, then run the same command again"
    assert left_in(small_disk) == []
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(UserError) as raised:
        store.write(path, "mine", source(), {})
    assert str(raised.value) == f"{path}: the file system is read-only: choose a folder that can be written"


WRITING = "Can't synchronously write data (file write failed: time = now, errno = {}, error message = 'so')"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        # As h5py reports it: an OSError without a number, which stands in its text. For machines where nothing can be mounted.
        (OSError(WRITING.format(errno.ENOSPC)), "{here}: the disk is full: free some space, then run the same command again"),
        (OSError(WRITING.format(errno.EROFS)), "{here}: the file system is read-only: choose a folder that can be written"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/photos/1.npz"),
            "/photos/1.npz: permission denied: choose a folder or file that you may use",
        ),
        (OSError(errno.EIO, "input/output error"), None),
    ],
)
def test_a_write_that_fails_is_one_line_where_the_user_can_help(tmp_path, monkeypatch, error, line):
    def fail(*_):
        raise error

    monkeypatch.setattr(store, "_write_part", fail)
    with pytest.raises(UserError if line else OSError) as raised:
        store.write(tmp_path / "mine.h5", "mine", source(), {})
    assert str(raised.value) == line.format(here=tmp_path / "mine.h5") if line else raised.value is error
    assert left_in(tmp_path) == []


def test_opening_what_is_not_a_store(tmp_path):
    missing, text, foreign, cut = (tmp_path / name for name in ("missing.h5", "text.h5", "foreign.h5", "cut.h5"))
    text.write_text("hello")
    with h5py.File(foreign, "w") as file:
        file["images"] = np.zeros(3)
    store.write(cut, "mine", source(), {})
    cut.write_bytes(cut.read_bytes()[:-200])
    for path, start in ((missing, "no such prepared dataset"), (text, "damaged"), (foreign, "not a prepared dataset"), (cut, "damaged")):
        with pytest.raises(UserError) as raised:
            datasets.load(path)
        line = str(raised.value)
        assert line.startswith(f"{path}: {start}") and "python -m esp_core prepare" in line and "\n" not in line

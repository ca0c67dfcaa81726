"""The prepared store: exact statistics, independence of chunks, and what it refuses."""

import errno
import subprocess

import h5py
import numpy as np
import pytest
import torch
from dataset_files import left_in

from esp_core import datasets
from esp_core.datasets import store
from esp_core.datasets.source import Chunk, Part, Source
from esp_core.runtime.errors import UserError


def made(count=40, shape=(3, 4, 4), classes=4, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, *shape), np.uint8), np.arange(count, dtype=np.int64) % classes


def part(images, labels, chunk=7, count=None, coarse=None):
    def cut(values, start):
        return None if values is None else values[start : start + chunk]

    pieces = (Chunk(cut(images, i), cut(labels, i), cut(coarse, i)) for i in range(0, len(images), chunk))
    return Part(len(images) if count is None else count, pieces, "here")


def source(chunk=7, images=None, labels=None, classes="abcd", **changes):
    default_images, default_labels = made()
    images = default_images if images is None else images
    labels = default_labels if labels is None else labels
    values = {
        "shape": images.shape[1:],
        "classes": tuple(classes),
        "train": part(images, labels, chunk),
        "test": part(*made(8, images.shape[1:])),
    }
    return Source(**{**values, "origin": {}, **changes})


def test_mean_and_std_are_those_of_float64(tmp_path):
    images, _ = made()
    store.write(tmp_path / "a.h5", "a", source(), {})
    scaled = images.astype(np.float64) / 255
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_allclose(file.attrs["mean"], scaled.mean((0, 2, 3)), rtol=1e-14)
        np.testing.assert_allclose(file.attrs["std"], scaled.std((0, 2, 3)), rtol=1e-13)


def test_sums_of_many_bright_images_are_exact():
    moments = store.Moments(1)
    for _ in range(300):
        moments.add(np.full((500, 1, 16, 16), 255, np.uint8))
    moments.add(np.full((1, 1, 16, 16), 254, np.uint8))
    pixels, odd = 300 * 500 * 256, 256
    assert moments.sums == [255 * pixels + 254 * odd]
    assert moments.squares == [255**2 * pixels + 254**2 * odd]
    share = odd / (pixels + odd)
    assert moments.std()[0] == pytest.approx((share * (1 - share)) ** 0.5 / 255, rel=1e-12)


def test_content_comes_back(tmp_path):
    coarse = np.arange(40, dtype=np.int64) % 2
    images, labels = made()
    test_images, test_labels = made(8)
    two_levels = source(
        train=part(images, labels, coarse=coarse), test=part(test_images, test_labels, coarse=test_labels // 2), coarse_classes=("x", "y")
    )
    store.write(tmp_path / "a.h5", "a", two_levels, {"spec": "{}"})
    data = datasets.load(tmp_path / "a.h5")
    assert torch.equal(data.train.images, torch.from_numpy(images)) and data.train.images.dtype == torch.uint8
    assert torch.equal(data.train.labels, torch.from_numpy(labels)) and data.train.labels.dtype == torch.int64
    assert torch.equal(data.train.coarse, torch.from_numpy(coarse))
    assert torch.equal(data.test.images, torch.from_numpy(test_images))
    assert (data.name, data.shape, data.classes, data.coarse_classes) == ("a", (3, 4, 4), tuple("abcd"), ("x", "y"))


def test_digest_depends_on_content_alone(tmp_path):
    def digest(name, provenance, content):
        store.write(tmp_path / name, "a", content, provenance)
        return datasets.load(tmp_path / name).digest

    first = digest("a.h5", {"spec": "1"}, source(chunk=7))
    assert digest("b.h5", {"spec": "2"}, source(chunk=40)) == first
    images, labels = made()
    images[-1, 0, 0, 0] ^= 1
    assert digest("c.h5", {"spec": "1"}, source(images=images)) != first
    labels[[0, 1]] = labels[[1, 0]]
    assert digest("d.h5", {"spec": "1"}, source(labels=labels)) != first


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
        ({"shape": (3, 5, 5)}, "here: image 0 has shape (3, 4, 4) where (3, 5, 5) is expected"),
        (
            {"images": np.concatenate([made()[0], np.full((40, 1, 4, 4), 9, np.uint8)], 1)},
            "here: channel 3 has one value in every training image; leave that channel out",
        ),
        (
            {"train": part(*made(), count=41)},
            "here: 40 images were read where 41 were counted; the data changed, so run this again",
        ),
        ({"test": part(*made(0))}, "here: no images"),
        ({"classes": "aacd"}, "mine: two or more classes with different names are needed; these are a, a, c, d"),
    ],
)
def test_bad_content_is_one_line_and_leaves_nothing(tmp_path, changes, line):
    with pytest.raises(UserError) as raised:
        store.write(tmp_path / "mine.h5", "mine", source(**changes), {})
    assert str(raised.value) == line
    assert left_in(tmp_path) == []


def test_more_images_than_announced_is_one_line(tmp_path):
    with pytest.raises(UserError, match="here: more images than the 39 that were counted"):
        store.write(tmp_path / "mine.h5", "mine", source(train=part(*made(), count=39)), {})
    assert left_in(tmp_path) == []


def test_an_old_store_survives_a_failure(tmp_path):
    path = tmp_path / "mine.h5"
    store.write(path, "mine", source(), {})
    before = path.read_bytes()
    with pytest.raises(UserError):
        store.write(path, "mine", source(labels=np.full(40, 9)), {})
    assert path.read_bytes() == before and left_in(tmp_path) == ["mine.h5"]


def test_a_disk_that_fills_up_is_one_line(small_disk):
    images, labels = made(4000, (1, 16, 16))
    with pytest.raises(UserError) as raised:
        store.write(small_disk / "mine.h5", "mine", source(images=images, labels=labels), {})
    assert str(raised.value) == f"{small_disk / 'mine.h5'}: the disk is full: free some space, then run the same command again"
    assert left_in(small_disk) == []


def test_a_read_only_disk_is_one_line(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(UserError) as raised:
        store.write(small_disk / "mine.h5", "mine", source(), {})
    assert str(raised.value) == f"{small_disk / 'mine.h5'}: the file system is read-only: choose a folder that can be written"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "the disk is full: free some space, then run the same command again"),
        (errno.EROFS, "the file system is read-only: choose a folder that can be written"),
    ],
)
def test_a_failing_write_of_hdf5_is_one_line(tmp_path, monkeypatch, number, advice):
    """As h5py reports it: an OSError without a number, which stands in its text. For machines where nothing can be mounted."""

    def fail(*_):
        raise OSError(f"Can't synchronously write data (file write failed: time = now, errno = {number}, error message = 'so')")

    monkeypatch.setattr(store, "_fill_part", fail)
    with pytest.raises(UserError) as raised:
        store.write(tmp_path / "mine.h5", "mine", source(), {})
    assert str(raised.value) == f"{tmp_path / 'mine.h5'}: {advice}"
    assert left_in(tmp_path) == []


def test_a_file_that_may_not_be_read_names_itself(tmp_path, monkeypatch):
    def fail(*_):
        raise PermissionError(errno.EACCES, "Permission denied", "/photos/1.npz")

    monkeypatch.setattr(store, "_fill_part", fail)
    with pytest.raises(UserError) as raised:
        store.write(tmp_path / "mine.h5", "mine", source(), {})
    assert str(raised.value) == "/photos/1.npz: permission denied: choose a folder or file that you may use"


def test_other_system_errors_are_not_swallowed(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(store, "_fill_part", fail)
    with pytest.raises(OSError, match="input/output"):
        store.write(tmp_path / "mine.h5", "mine", source(), {})
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

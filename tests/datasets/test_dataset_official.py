"""Readers of the official layouts, on small files made here in those layouts."""

import json
import os

import h5py
import numpy as np
import pytest
import torch
from dataset_files import cifar_records, left_in
from PIL import Image
from scipy.io import savemat

from esp_core import datasets
from esp_core.datasets import catalogue, cifar100


def test_cifar10_reads_its_files_in_order(tmp_path, prepare, listed):
    folder, expected = tmp_path / "cifar-10-batches-bin", []
    folder.mkdir()
    names = [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]
    for seed, name in enumerate(names):
        content, images = cifar_records([(seed + i) % 10 for i in range(10)], seed)
        (folder / name).write_bytes(content)
        expected.append(images)
    data = datasets.load(prepare("cifar10", listed(folder, *names)))
    np.testing.assert_array_equal(data.train.images.numpy(), np.concatenate(expected[:5]))
    np.testing.assert_array_equal(data.test.images.numpy(), expected[5])
    assert data.train.labels.tolist() == [(seed + i) % 10 for seed in range(5) for i in range(10)]
    assert data.classes[3] == "cat" and len(data.classes) == 10


@pytest.fixture
def cifar100_files(tmp_path, listed):
    """files.json of a CIFAR-100 of one image a class in either part, its bytes and its images."""
    content, images = cifar_records(np.stack([np.arange(100) % 20, np.arange(100)], 1))
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(content)
    return listed(tmp_path, "train.bin", "test.bin"), content, images


def test_cifar100_takes_the_fine_labels(prepare, cifar100_files):
    files, _, images = cifar100_files
    with h5py.File(prepare("cifar100", files)) as file:
        np.testing.assert_array_equal(file["train/images"], images)
        np.testing.assert_array_equal(file["train/labels"], np.arange(100))
        assert len(file["classes"]) == 100


@pytest.mark.parametrize("size", [16, 8])
def test_cifar_averages_squares(prepare, cifar100_files, size):
    files, _, images = cifar100_files
    data = datasets.load(prepare("cifar100", files, size=size))
    assert data.shape == (3, size, size)
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(images).double(), size)
    assert (data.train.images.double() - expected).abs().max() <= 0.5


def test_cifar100_names_stand_in_the_official_order():
    """fine_label_names.txt is sorted, and has 100 lines."""
    assert len(set(cifar100.CLASSES)) == 100 and list(cifar100.CLASSES) == sorted(cifar100.CLASSES)


def test_svhn_calls_ten_zero(tmp_path, prepare, listed):
    """X is (32, 32, 3, N), row by column by colour by image; y is (N, 1), 10 for the digit 0."""
    random = np.random.default_rng(0)
    written = {}
    for name, count in (("train", 25), ("test", 12)):
        images = random.integers(0, 256, (32, 32, 3, count), np.uint8)
        labels = (np.arange(count) % 10 + 1).astype(np.uint8).reshape(-1, 1)
        savemat(tmp_path / f"{name}_32x32.mat", {"X": images, "y": labels}, do_compression=True)
        written[name] = images
    data = datasets.load(prepare("svhn", listed(tmp_path, "train_32x32.mat", "test_32x32.mat")))
    assert data.train.labels.tolist() == [(i + 1) % 10 for i in range(25)]
    assert data.classes == tuple("0123456789") and data.shape == (3, 32, 32)
    for image in (0, 9, 24):
        for row, column, colour in ((0, 0, 0), (3, 17, 1), (31, 30, 2)):
            assert data.train.images[image, colour, row, column] == written["train"][row, column, colour, image]
    np.testing.assert_array_equal(data.test.images[7].numpy(), written["test"][..., 7].transpose(2, 0, 1))


LAYOUT = "X has shape {} and y {}, not SVHN's (32, 32, 3, N) and (N, 1); get the cropped-digits file"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"X": (32, 32, 3, 4)}, LAYOUT.format((32, 32, 3, 4), ())),
        ({"X": (28, 28, 3, 4), "y": (4, 1)}, LAYOUT.format((28, 28, 3, 4), (4, 1))),
        ({"X": (32, 32, 3, 4), "y": (5, 1)}, LAYOUT.format((32, 32, 3, 4), (5, 1))),
        (
            {"X": (32, 32, 3, 4), "y": (4, 1)},
            "image 0 has label 11, but there are 10 classes, 0 to 9; correct the label or name the missing classes",
        ),
    ],
)
def test_a_mat_file_of_another_layout_or_labels(tmp_path, prepare, listed, line_of, content, line):
    for name in ("train", "test"):
        savemat(tmp_path / f"{name}_32x32.mat", {key: np.full(shape, 11, np.uint8) for key, shape in content.items()})
    files = listed(tmp_path, "train_32x32.mat", "test_32x32.mat")
    assert line_of(prepare, "svhn", files) == f"{tmp_path / 'train_32x32.mat'}: {line}"
    assert left_in(tmp_path / "out") == []


@pytest.fixture
def tiny(tmp_path):
    """Three classes, three training and two validation images each, one of them grey; colours tell class and image apart."""
    root = tmp_path / "tiny-imagenet-200"
    ids = ["n30", "n10", "n20"]
    (root / "val" / "images").mkdir(parents=True)
    annotations = []
    for number, wnid in enumerate(ids):
        folder = root / "train" / wnid / "images"
        folder.mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (64, 64), (80 * number, 60 * i, 200)).save(folder / f"{wnid}_{i}.JPEG", quality=95)
        for i in range(2):
            name = f"val_{2 * number + i}.JPEG"
            Image.new("L", (64, 64), 50 * number).save(root / "val" / "images" / name)
            annotations.append(f"{name}\t{wnid}\t0\t0\t9\t9\n")
    (root / "val" / "val_annotations.txt").write_text("".join(annotations))
    (root / "wnids.txt").write_text("\n".join(ids) + "\n")
    (root / "words.txt").write_text("n10\tant, emmet\nn20\tbee\nn30\tcat, true cat\nn99\tunused\n")
    return root


def test_tinyimagenet_sorts_classes_and_reads_the_annotations(tiny, prepare, listed):
    data = datasets.load(prepare("tinyimagenet", listed(tiny), sample=True))
    assert data.classes == ("ant", "bee", "cat")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.test.labels.tolist() == [2, 2, 0, 0, 1, 1]
    # n10 was made second, so its red is 80; JPEG is near, not exact
    assert torch.all((data.train.images[1].float().mean((1, 2)) - torch.tensor([80.0, 60.0, 200.0])).abs() < 3)
    grey = data.test.images[2]
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[0], grey[2]) and abs(grey.float().mean() - 50) < 3


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (
            None,
            "{tiny}: class n10 has 3 train images where the official set has 500; "
            "get the official archive again, or set options.sample to true",
        ),
        (
            lambda tiny: (tiny / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn77\t0\t0\t9\t9\n"),
            "{tiny}: validation label n77 is not in wnids.txt; get the official archive again",
        ),
        (
            lambda tiny: (tiny / "val" / "val_annotations.txt").unlink(),
            "{tiny}/val/val_annotations.txt: missing; get the official archive again or give its whole unpacked folder",
        ),
        (
            lambda tiny: os.truncate(tiny / "train" / "n20" / "images" / "n20_1.JPEG", 300),
            "{tiny}/train/n20/images/n20_1.JPEG: not a readable image (OSError); repair or remove it",
        ),
    ],
)
def test_a_tinyimagenet_that_is_not_whole(tiny, prepare, listed, line_of, damage, line):
    if damage:
        damage(tiny)
    assert line_of(prepare, "tinyimagenet", listed(tiny), sample=damage is not None) == line.format(tiny=tiny)
    assert left_in(tiny.parent / "out") == []


@pytest.mark.parametrize(
    ("change", "start"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "altered, SHA-256 "),
        (lambda data: data[:-1], "cut short, 307,399 bytes where the official file has 307,400; "),
        (None, "missing; "),
    ],
)
def test_a_file_that_changed_after_the_download(tmp_path, prepare, cifar100_files, line_of, change, start):
    files, content, _ = cifar100_files
    (tmp_path / "test.bin").write_bytes(change(content)) if change else (tmp_path / "test.bin").unlink()
    line = line_of(prepare, "cifar100", files)
    assert line.startswith(f"{tmp_path / 'test.bin'}: {start}")
    assert line.endswith(f"; delete {files} and run python -m esp_core download again") and left_in(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({}, "{files}: missing or damaged; make it again with python -m esp_core download"),
        (None, "{files}: missing or damaged; make it again with python -m esp_core download"),
        ({"folder": "gone", "from": "", "verified": "members", "files": []}, "{folder}/gone: missing; delete {files} and run python"),
        ("", "dataset mine: --files is missing; get the official files with python -m esp_core download"),
    ],
)
def test_without_the_list_of_files(tmp_path, prepare, line_of, facts, line):
    files = tmp_path / "files.json"
    if facts is not None:
        files.write_text(json.dumps(facts))
    said = line_of(prepare, "cifar10", None if facts == "" else files)
    assert said.startswith(line.format(files=files, folder=tmp_path))


def test_whole_records_are_needed_and_a_size_that_divides(tmp_path, prepare, listed, line_of):
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(cifar_records(np.zeros((3, 2)))[0][:-5])
    files = listed(tmp_path, "train.bin", "test.bin")
    line = f"{tmp_path / 'train.bin'}: cut short, its 9,217 bytes are not whole records of 3074; get it again"
    assert line_of(prepare, "cifar100", files) == line
    assert line_of(prepare, "cifar100", files, size=12) == "dataset mine: options.size: 12 is unknown; allowed: 32, 16, 8"


def test_the_catalogue_agrees_with_itself():
    for kind, entry in catalogue.ENTRIES.items():
        assert entry.images_per_class * entry.classes <= entry.train
        for file in (*entry.members, *([entry.archive] if entry.archive else [])):
            assert file.size > 0 and len(file.sha256) == 64 and int(file.sha256, 16)
        assert catalogue.is_official(kind) == bool(entry.archive or entry.members)
    for kind in ("cifar10", "cifar100"):  # whole records of one or two labels and 3,072 pixels
        label_bytes = 1 if kind == "cifar10" else 2
        entry = catalogue.ENTRIES[kind]
        assert sum(member.size for member in entry.members) == (entry.train + entry.test) * (3072 + label_bytes)
    assert not any(catalogue.is_official(kind) for kind in ("digits", "imagefolder", "npz", "hdf5", "torchvision_class"))

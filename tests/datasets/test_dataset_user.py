"""The user's own images as arrays in one file and by torchvision's classes; and what is refused."""

import gzip
import zipfile

import numpy as np
import pytest
import torch
from dataset_files import left_in, save
from PIL import Image
from torch.testing import assert_close

from esp_core import datasets
from esp_core.datasets.splitting import stratified

KINDS = pytest.mark.parametrize("kind", ["npz", "hdf5"])


def arrays(count=60, shape=(9, 9, 3), classes=3, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, *shape), np.uint8), (np.arange(count) % classes).astype(np.int64)


@KINDS
@pytest.mark.parametrize(
    ("shape", "layout", "dtype", "highest"),
    [
        ((9, 9, 3), None, np.uint8, 255),
        ((9, 9, 3), None, np.float32, 1),
        ((3, 9, 9), None, np.float16, 1),
        ((9, 9), None, np.float64, 1),
        ((9, 9, 3), None, np.int32, 255),
        ((3, 3, 3), "NHWC", np.uint8, 255),
        ((3, 3, 3), "NCHW", np.uint8, 255),
        ((2, 5, 5), "NCHW", np.uint8, 255),
        ((5, 5, 4), "NHWC", np.uint16, 255),
    ],
)
def test_arrays_become_bytes_and_are_split_class_by_class(tmp_path, prepare, kind, shape, layout, dtype, highest):
    images, labels = arrays(shape=shape)
    save(kind, tmp_path / "a", images=(images / 255 * highest).round(6).astype(dtype), labels=labels.astype(np.uint16))
    data = datasets.load(prepare(kind, path=str(tmp_path / "a"), layout=layout, test_fraction=0.25, seed=4))
    expected = images.reshape(60, 1, 9, 9) if shape == (9, 9) else images if shape[0] < shape[1] or layout == "NCHW" else None
    expected = images.transpose(0, 3, 1, 2) if expected is None else expected
    kept, held = stratified(torch.from_numpy(labels), 0.25, 4, "split", "mine")
    for split, indices in ((data.train, kept), (data.test, held)):
        np.testing.assert_array_equal(split.images.numpy(), expected[indices])
        np.testing.assert_array_equal(split.labels.numpy(), labels[indices])
    assert data.classes == ("0", "1", "2")


@KINDS
@pytest.mark.parametrize("grey", [False, True])
def test_medmnists_layout(tmp_path, prepare, said, kind, grey):
    """train_, val_ and test_ images, 28 x 28 grey or 28 x 28 x 3, and labels (n, 1); validation stands in for a test part."""
    content = {}
    for seed, (part, count) in enumerate((("train", 30), ("val", 9), ("test", 12))):
        images, labels = arrays(count, (28, 28) if grey else (28, 28, 3), seed=seed)
        content |= {f"{part}_images": images, f"{part}_labels": labels.reshape(-1, 1).astype(np.uint8)}

    def check(options, tested):
        data = datasets.load(prepare(kind, path=str(tmp_path / "med"), **options))
        for split, part in ((data.train, "train"), (data.test, tested)):
            images = content[f"{part}_images"]
            np.testing.assert_array_equal(split.images.numpy(), images[:, None] if grey else images.transpose(0, 3, 1, 2))
            np.testing.assert_array_equal(split.labels.numpy(), content[f"{part}_labels"].ravel())
        return data.classes

    save(kind, tmp_path / "med", **content, weights=np.ones(6))
    assert check({"classes": ["x", "y", "z"]}, "test") == ("x", "y", "z")
    assert said()[3:] == [f"1 array left out: {name}" for name in ("val_images", "val_labels", "weights")]
    save(kind, tmp_path / "med", **{name: values for name, values in content.items() if not name.startswith("test")})
    assert check({}, "val") == ("0", "1", "2")
    assert said()[3:] == ["9 images of val_images taken as test images, since there are no others"]
    data = datasets.load(prepare(kind, path=str(tmp_path / "med"), images="val_images", labels="val_labels"))
    assert (len(data.train), len(data.test)) == (6, 3)  # not tested on what it is trained on


def test_groups_and_given_names_and_a_prepared_store(tmp_path, prepare):
    first, second = arrays(30, (3, 9, 9), seed=1), arrays(12, (3, 9, 9), seed=2)
    save("hdf5", tmp_path / "a.h5", train__images=first[0], train__labels=first[1], my__x=second[0], my__y=second[1])
    options = {"test_images": "my/x", "test_labels": "my/y"}
    data = datasets.load(stored := prepare("hdf5", path=str(tmp_path / "a.h5"), out=tmp_path / "b.h5", **options))
    np.testing.assert_array_equal(data.train.images.numpy(), first[0])
    np.testing.assert_array_equal(data.test.images.numpy(), second[0])
    assert datasets.load(prepare("hdf5", path=str(stored))).digest == data.digest


NEEDED = "uint8, or floating-point numbers in [0, 1], are needed"
ZEROS = np.zeros((60, 9, 9), np.uint8)
BAD_ARRAYS = [
    (
        {"labels": np.arange(60) % 3 * 2},
        {},
        "{a}: images: class 1 has no image, the next label is 2; number the classes from 0 without gaps",
    ),
    (
        {"labels": np.r_[np.arange(59) % 3, 3]},
        {"classes": ["x", "y", "z"]},
        "{a}: images: image 59 has label 3, but there are 3 classes, 0 to 2; correct the label or name the missing classes",
    ),
    ({"labels": np.zeros((60, 14), int)}, {}, "{a}: labels is int64 of shape (60, 14); one whole number for each image is needed"),
    ({"labels": np.zeros(60)}, {}, "{a}: labels is float64 of shape (60,); one whole number for each image is needed"),
    ({"labels": np.arange(59) % 3}, {}, "{a}: images has shape (60, 9, 9, 3), labels (59,); their first sizes must agree"),
    ({"images": ZEROS[:, 0]}, {}, "{a}: images: shape (60, 9); (N, H, W), (N, H, W, C) or (N, C, H, W) is needed"),
    (
        {"images": np.zeros((60, 28, 28, 28), np.uint8)},
        {},
        "{a}: images: shape (60, 28, 28, 28) does not tell where the channels are; set options.layout to NHWC or NCHW",
    ),
    ({}, {"layout": "CHW"}, "dataset mine: options.layout: 'CHW' is unknown; did you mean NCHW? allowed: NHWC, NCHW, null"),
    ({}, {"classes": "cat"}, "dataset mine: options.classes: 'cat' is not a list or null"),
    ({"images": np.full((60, 9, 9), np.nan)}, {}, f"{{a}}: images: values are float64 from nan to nan; {NEEDED}"),
    ({"images": ZEROS - np.int64(3)}, {}, f"{{a}}: images: values are int64 from -3 to -3; {NEEDED}"),
    ({"images": ZEROS.astype(bool)}, {}, f"{{a}}: images: values are bool and no numbers; {NEEDED}"),
    ({"images": ZEROS[:0]}, {}, "{a}: images has shape (0, 9, 9), labels (60,); there are no images in it"),
    ({}, {"images": "x"}, "{a}: options.images and options.labels go together; give both"),
    ({}, {"test_images": "x", "test_labels": "y"}, "{a}: has no array x, only images, labels; correct the options"),
    ({"labels": None}, {}, "{a}: holds images; name the arrays in options.images and options.labels"),
]


@pytest.mark.parametrize(("content", "options", "line"), BAD_ARRAYS)
def test_bad_arrays(tmp_path, prepare, line_of, content, options, line):
    path, whole = tmp_path / "a.npz", dict(zip(("images", "labels"), arrays(), strict=True)) | content
    save("npz", path, **{name: values for name, values in whole.items() if values is not None})
    assert line_of(prepare, "npz", path=str(path), **options) == line.format(a=path)
    assert left_in(tmp_path / "out") == []


class Trap:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_file_that_is_changed_cut_pickled_or_another(tmp_path, prepare, line_of):
    images, labels = arrays()
    path, good = tmp_path / "a.npz", tmp_path / "good.npz"
    np.savez(good, labels=labels, images=images)

    def told(kind="npz"):
        line = line_of(prepare, kind, path=str(path))
        assert line.startswith(str(path)) and line.endswith("); save plain arrays again") and left_in(tmp_path / "out") == []
        return line.removeprefix(f"{path}: ").removeprefix("images: damaged, cut short, pickled or of another format (")

    changed = bytearray(good.read_bytes())
    changed[-3000] ^= 1
    path.write_bytes(changed)
    assert told().startswith("Bad CRC-32")
    with zipfile.ZipFile(good) as whole, zipfile.ZipFile(path, "w") as cut:
        for name in whole.namelist():
            cut.writestr(name, whole.read(name)[: -5 if name == "images.npy" else None])
    assert told().startswith("EOF: reading array data")
    np.savez(path, images=np.array([Trap(tmp_path / "sprung")] * 3, object), labels=np.zeros(3, int))
    assert told().startswith("Object arrays cannot be loaded") and not (tmp_path / "sprung").exists()
    with path.open("wb") as file:
        np.save(file, images)
    told()
    np.array([Trap(tmp_path / "sprung")], object).dump(path)
    told()
    for content in (b"hello", b"", good.read_bytes()[:-300]):
        path.write_bytes(content)
        told(), told("hdf5")
    assert not (tmp_path / "sprung").exists()


# torchvision's classes.


def write_idx(path, values):
    """The format of MNIST's files: two zeros, type 8, the number of axes, their sizes as big-endian 32-bit, the bytes."""
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + values.astype(np.uint8).tobytes())
    path.with_suffix(".gz").write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


def test_a_torchvision_class_with_a_train_switch(tmp_path, prepare):
    raw, written = tmp_path / "FashionMNIST" / "raw", {}
    for part, count in (("train", 20), ("t10k", 10)):
        written[part] = arrays(count, (28, 28), classes=10, seed=count)
        write_idx(raw / f"{part}-images-idx3-ubyte", written[part][0])
        write_idx(raw / f"{part}-labels-idx1-ubyte", written[part][1])
    data = datasets.load(prepare("torchvision_class", name="FashionMNIST", arguments={"root": str(tmp_path)}))
    for split, part in ((data.train, "train"), (data.test, "t10k")):
        np.testing.assert_array_equal(split.images[:, 0].numpy(), written[part][0])
        np.testing.assert_array_equal(split.labels.numpy(), written[part][1])
    assert data.classes[0] == "T-shirt/top" and data.shape == (1, 28, 28)


def test_a_torchvision_class_in_one_part_and_in_given_parts(prepare):
    """FakeData draws image i with the seed i + offset: the two given parts overlap by ten images."""
    arguments = {"size": 40, "image_size": [3, 12, 12], "num_classes": 2}
    data = datasets.load(prepare("torchvision_class", name="FakeData", arguments=arguments, size=6, mode="L"))
    assert (len(data.train), len(data.test), data.shape, data.classes) == (32, 8, (1, 6, 6), ("0", "1"))
    parts = {"train": {"random_offset": 0, "size": 30}, "test": {"random_offset": 20, "size": 20}}
    data = datasets.load(prepare("torchvision_class", name="FakeData", arguments={"image_size": [3, 8, 8], "num_classes": 2}, **parts))
    assert (len(data.train), len(data.test)) == (30, 20)
    assert_close(data.train.images[20:], data.test.images[:10], rtol=0, atol=0)


GREY = Image.new("L", (8, 8))


def torn(index):
    if index == 5:
        raise OSError("image file is truncated")
    return GREY, index % 2


@pytest.mark.parametrize(
    ("options", "item", "line"),
    [
        ({"name": "FashionMINST"}, None, "options.name: torchvision.datasets has no dataset class FashionMINST; its names are in "),
        ({"name": "utils"}, None, "options.name: torchvision.datasets has no dataset class utils; "),
        (
            {"name": "FashionMNIST", "arguments": {"root": "/no"}},
            None,
            "torchvision's FashionMNIST with {'root': '/no', 'train': True}: Data",
        ),
        ({"arguments": {"sise": 3}}, None, "torchvision's FakeData with {'sise': 3}: FakeData.__init__() got an unexpected keyword"),
        ({"train": {}}, None, "options.train and options.test go together; give both"),
        (
            {"train": {"size": 9}, "test": {"size": 9}, "arguments": {"num_classes": 1}, "test_fraction": 0.1},
            None,
            "dataset mine: options.test_fraction has no meaning, since torchvision's FakeData holds test images; remove it",
        ),
        (
            {},
            lambda index: (GREY, {"boxes": []}),
            "torchvision's FakeData: its targets are not one whole number an image; only classification can be condensed",
        ),
        ({}, torn, "torchvision's FakeData: item 5 cannot be read (image file is truncated); repair or remove it"),
        (
            {},
            lambda index: (torch.zeros(3), index % 2),
            "torchvision's FakeData: item 0 is a Tensor, not a picture; use the npz or hdf5 kind for arrays",
        ),
    ],
)
def test_torchvision_mistakes(tmp_path, prepare, line_of, monkeypatch, options, item, line):
    from torchvision.datasets import FakeData

    if item:
        monkeypatch.setattr(FakeData, "__getitem__", lambda self, index: item(index))
        options = {"arguments": {"size": 20}}
    assert line_of(prepare, "torchvision_class", **{"name": "FakeData", **options}).startswith(line)
    assert left_in(tmp_path) == []

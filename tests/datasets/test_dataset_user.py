"""The user's own images: folders, arrays in one file, torchvision's classes; and what is refused."""

import gzip
import zipfile

import numpy as np
import pytest
import torch
from dataset_files import left_in, save
from PIL import Image, ImageOps
from torch.testing import assert_close

from esp_core import datasets
from esp_core.datasets.splitting import stratified


def picture(folder, name, colour, size=(8, 8), mode="RGB"):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(folder / name)
    return folder / name


@pytest.fixture
def folders(tmp_path):
    """Ten images of each of three classes; red tells the class, green the image."""
    root = tmp_path / "photos"
    for number, name in enumerate(("ant", "bee", "cat")):
        for i in range(10):
            picture(root / name, f"{i}.png", (100 * number, 20 * i, i))
    (root / "notes.txt").write_text("not an image")
    (root / ".cache").mkdir()
    return root


def colours(split):
    return {(int(label), *image[:, 0, 0].tolist()) for image, label in zip(split.images, split.labels, strict=True)}


# Folders.


def test_folders_become_classes_and_are_split(folders, prepare):
    data = datasets.load(prepare("imagefolder", path=str(folders)))
    assert (data.classes, data.shape) == (("ant", "bee", "cat"), (3, 8, 8))
    assert torch.bincount(data.train.labels).tolist() == [8, 8, 8] and torch.bincount(data.test.labels).tolist() == [2, 2, 2]
    assert colours(data.train) | colours(data.test) == {(c, 100 * c, 20 * i, i) for c in range(3) for i in range(10)}
    assert colours(data.train).isdisjoint(colours(data.test))


def test_the_made_split_is_a_function_of_the_seed(folders, prepare, tmp_path):
    first, again, other = (
        datasets.load(prepare("imagefolder", out=tmp_path / f"{i}.h5", seed=seed, path=str(folders), test_fraction=0.3))
        for i, seed in enumerate((0, 0, 1))
    )
    assert len(first.test) == 9
    assert first.digest == again.digest and colours(first.test) != colours(other.test)


def test_resizing_scales_the_shorter_side_and_crops_the_middle(tmp_path, prepare):
    """A picture of 16 x 8 whose middle 8 x 8 is white, to 4 x 4: all white."""
    wide = Image.new("RGB", (16, 8), (0, 0, 0))
    wide.paste((255, 255, 255), (4, 0, 12, 8))
    for label in ("a", "b"):
        for i in range(4):
            picture(tmp_path / "photos" / label, f"{i}.png", (0, 50 * i, 9), size=(6, 9))
    wide.save(tmp_path / "photos" / "b" / "wide.png")
    data = datasets.load(prepare("imagefolder", path=str(tmp_path / "photos"), size=4, test_fraction=0.5))
    assert data.shape == (3, 4, 4)
    images = torch.cat([data.train.images, data.test.images])
    assert (images.flatten(1).float().mean(1) > 230).sum() == 1
    assert {tuple(image[:, 2, 2].tolist()) for image in images if image.float().mean() < 230} == {(0, 50 * i, 9) for i in range(4)}


def test_mode_converts_colour_grey_palette_and_alpha(tmp_path, prepare):
    """Grey is ITU-R 601-2 luma, 299/1000 R + 587/1000 G + 114/1000 B; what alpha hides is white."""
    root = tmp_path / "photos"
    for label in ("a", "b"):
        picture(root / label, "0.png", (200, 100, 50))
        picture(root / label, "1.png", 60, mode="L")
        picture(root / label, "2.png", (10, 20, 30, 0), mode="RGBA")
        Image.new("RGB", (8, 8), (200, 100, 50)).quantize().save(root / label / "3.png")
    data = datasets.load(prepare("imagefolder", path=str(root), mode="L", test_fraction=0.5))
    values = sorted(torch.cat([data.train.images, data.test.images])[:, 0, 0, 0].tolist())
    luma = [round((299 * r + 587 * g + 114 * b) / 1000) for r, g, b in ((200, 100, 50), (60, 60, 60), (255, 255, 255), (200, 100, 50))]
    assert data.shape == (1, 8, 8) and np.abs(np.array(values) - sorted(luma * 2)).max() <= 1


def test_a_photo_is_turned_as_its_camera_was(tmp_path, prepare):
    image = Image.new("RGB", (8, 8))
    image.paste((255, 255, 255), (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn by 90 degrees clockwise
    for label in ("a", "b"):
        picture(tmp_path / "photos" / label, "0.png", 0)
        image.save(tmp_path / "photos" / label / "1.png", exif=exif)
    data = datasets.load(prepare("imagefolder", path=str(tmp_path / "photos"), test_fraction=0.5))
    turned = max(torch.cat([data.train.images, data.test.images]), key=lambda image: image.float().sum())
    assert torch.all(turned[:, :, 4:] == 255) and torch.all(turned[:, :, :4] == 0)
    assert ImageOps.exif_transpose(Image.open(tmp_path / "photos" / "a" / "1.png")).getpixel((7, 0)) == (255, 255, 255)


def refused(prepare, line_of, tmp_path, kind, line, **options):
    assert line_of(prepare, kind, **options) == line
    assert left_in(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("added", "options", "line"),
    [
        (
            {"name": "bee/odd.png", "size": (8, 9)},
            {},
            "{root}/bee/odd.png: 8 x 9 pixels, but {root}/ant/0.png has 8 x 8; set options.size to resize all",
        ),
        *(
            (
                {"name": "bee/odd.png", "mode": mode, "colour": colour},
                {},
                f"{{root}}/bee/odd.png: mode {mode}, but {{root}}/ant/0.png is RGB; set options.mode to RGB or L to convert all",
            )
            for mode, colour in (("L", 9), ("RGBA", (1, 2, 3, 4)), ("P", 1))
        ),
        (
            {"name": "ant/0.png", "mode": "RGBA", "colour": (1, 2, 3, 4)},
            {},
            "{root}/ant/0.png: mode RGBA; set options.mode to RGB or L to convert all images",
        ),
        (
            {"name": "bee/deep.png", "mode": "I;16", "colour": 40_000},
            {"mode": "L"},
            "{root}/bee/deep.png: mode I;16 has more than 8 bits a channel; save it as an 8-bit image",
        ),
        ({"name": "dog/1.png"}, {}, "class dog: one image cannot be split into two parts; add images or give the test part yourself"),
        ({}, {"size": 0}, "dataset mine: options.size: 0 is not allowed; allowed: at least 1"),
        ({}, {"mode": "HSV"}, "dataset mine: options.mode: 'HSV' is unknown; allowed: RGB, L, null"),
        ({}, {"test_fraction": 1.5}, "dataset mine: options.test_fraction: 1.5 is not allowed; allowed: less than 1"),
    ],
)
def test_images_and_options_that_do_not_fit(folders, prepare, line_of, tmp_path, added, options, line):
    if added:
        name = folders / added.pop("name")
        picture(name.parent, name.name, **{"colour": (1, 2, 3), **added})
    refused(prepare, line_of, tmp_path, "imagefolder", line.format(root=folders), path=str(folders), **options)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:45], lambda data: b"hello", lambda data: b"", lambda data: data[:50] + b"xx" + data[52:]]
)
def test_a_damaged_image(folders, prepare, line_of, tmp_path, damage):
    path = folders / "cat" / "3.png"
    path.write_bytes(damage(path.read_bytes()))
    line = line_of(prepare, "imagefolder", path=str(folders))
    assert line.startswith(f"{path}: not a readable image (") and line.endswith("); repair or remove it")
    assert left_in(tmp_path / "out") == []


def test_an_empty_class_folder(folders, prepare, line_of, tmp_path):
    (folders / "dog").mkdir()
    (folders / "dog" / "readme.txt").write_text("soon")
    line = f"{folders}/dog: class dog has no image here; add some or remove the class"
    refused(prepare, line_of, tmp_path, "imagefolder", line, path=str(folders))


@pytest.mark.parametrize(
    ("labels", "options", "line"),
    [
        ("abc", {}, "{root}/test/c: no training folder has this name; rename or remove it"),
        (
            "ab",
            {"test_fraction": 0.1},
            "dataset mine: options.test_fraction has no meaning, since {root}/test holds test images; remove it",
        ),
    ],
)
def test_a_given_test_part_that_does_not_fit(tmp_path, prepare, line_of, labels, options, line):
    root = tmp_path / "photos"
    for part, names in (("train", "ab"), ("test", labels)):
        for name in names:
            picture(root / part / name, "1.png", 3)
    refused(prepare, line_of, tmp_path, "imagefolder", line.format(root=root), path=str(root), **options)


def test_folders_that_are_none(tmp_path, prepare, line_of):
    line = f"{tmp_path}/gone: no such folder; correct options.path of dataset mine"
    refused(prepare, line_of, tmp_path, "imagefolder", line, path=str(tmp_path / "gone"))
    (tmp_path / "flat").mkdir()
    line = f"{tmp_path}/flat: holds no class folders; put the images of each class into a folder of its own"
    refused(prepare, line_of, tmp_path, "imagefolder", line, path=str(tmp_path / "flat"))


# Arrays.


def arrays(count=60, shape=(9, 9, 3), classes=3, seed=0, dtype=np.uint8):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, *shape)).astype(dtype), (np.arange(count) % classes).astype(np.int64)


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_arrays_are_split_class_by_class(tmp_path, prepare, kind):
    images, labels = arrays()
    save(kind, tmp_path / "a", images=images, labels=labels)
    path = tmp_path / "a"
    data = datasets.load(prepare(kind, path=str(path), test_fraction=0.25, seed=4))
    kept, held = stratified(torch.from_numpy(labels), 0.25, 4, "split", "mine")
    for split, indices in ((data.train, kept), (data.test, held)):
        np.testing.assert_array_equal(split.images.numpy(), images[indices].transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(split.labels.numpy(), labels[indices])
    assert data.classes == ("0", "1", "2")


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
@pytest.mark.parametrize("grey", [False, True])
def test_medmnists_layout(tmp_path, prepare, kind, grey):
    """train_, val_ and test_ images, 28 x 28 grey or 28 x 28 x 3, and labels (n, 1); the validation images are left out."""
    content = {}
    for seed, (part, count) in enumerate((("train", 30), ("val", 9), ("test", 12))):
        images, labels = arrays(count, (28, 28) if grey else (28, 28, 3), seed=seed)
        content |= {f"{part}_images": images, f"{part}_labels": labels.reshape(-1, 1).astype(np.uint8)}
    save(kind, tmp_path / "med.npz", **content)
    data = datasets.load(prepare(kind, path=str(tmp_path / "med.npz"), classes=["x", "y", "z"]))
    for split, part in ((data.train, "train"), (data.test, "test")):
        images = content[f"{part}_images"]
        expected = images[:, None] if grey else images.transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(split.images.numpy(), expected)
        np.testing.assert_array_equal(split.labels.numpy(), content[f"{part}_labels"].ravel())
    assert data.classes == ("x", "y", "z")


def test_groups_and_given_names(tmp_path, prepare):
    first, second = arrays(30, (3, 9, 9), seed=1), arrays(12, (3, 9, 9), seed=2)
    save("hdf5", tmp_path / "a.h5", train__images=first[0], train__labels=first[1], my__x=second[0], my__y=second[1])
    data = datasets.load(prepare("hdf5", path=str(tmp_path / "a.h5"), test_images="my/x", test_labels="my/y"))
    np.testing.assert_array_equal(data.train.images.numpy(), first[0])
    np.testing.assert_array_equal(data.test.images.numpy(), second[0])


def test_a_prepared_store_can_be_read_again(tmp_path, prepare):
    first = datasets.load(prepare("digits", out=tmp_path / "first.h5", size=8))
    second = datasets.load(prepare("hdf5", path=str(tmp_path / "first.h5")))
    assert first.digest == second.digest


@pytest.mark.parametrize(("dtype", "highest"), [(np.float32, 1), (np.float64, 1), (np.float16, 1), (np.int32, 255), (np.uint16, 255)])
@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_numbers_from_zero_to_one_and_integers_become_bytes(tmp_path, prepare, kind, dtype, highest):
    images, labels = arrays()
    save(kind, tmp_path / "a.npz", images=(images / 255 * highest).round(6).astype(dtype), labels=labels.astype(np.uint16))
    data = datasets.load(prepare(kind, path=str(tmp_path / "a.npz"), test_fraction=0.5))
    kept, _ = stratified(torch.from_numpy(labels), 0.5, 0, "split", "mine")
    np.testing.assert_array_equal(data.train.images.numpy(), images[kept].transpose(0, 3, 1, 2))


@pytest.mark.parametrize(("layout", "shape"), [("NHWC", (3, 3, 3)), ("NCHW", (3, 3, 3)), ("NCHW", (2, 5, 5)), ("NHWC", (5, 5, 4))])
def test_a_layout_can_be_given(tmp_path, prepare, layout, shape):
    images, labels = arrays(shape=shape)
    save("npz", tmp_path / "a.npz", images=images, labels=labels)
    data = datasets.load(prepare("npz", path=str(tmp_path / "a.npz"), layout=layout, test_fraction=0.5))
    kept, _ = stratified(torch.from_numpy(labels), 0.5, 0, "split", "mine")
    expected = images[kept] if layout == "NCHW" else images[kept].transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(data.train.images.numpy(), expected)


BAD_ARRAYS = [
    (
        {"labels": np.r_[np.arange(59) % 3, -1]},
        "{a}: images: class 0 has no image, the next label is -1; number the classes from 0 without gaps",
    ),
    ({"labels": np.arange(60) % 3 * 2}, "{a}: images: class 1 has no image, the next label is 2; number the classes from 0 without gaps"),
    (
        {"labels": np.r_[np.arange(59) % 3, 3], "options": {"classes": ["x", "y", "z"]}},
        "{a}: images: image 59 has label 3, but there are 3 classes, 0 to 2; correct the label or name the missing classes",
    ),
    ({"options": {"classes": ["w", "x", "y", "z"]}}, "{a}: images: class z has no training image; add some or remove the class"),
    ({"labels": np.zeros((60, 14), int)}, "{a}: labels is int64 of shape (60, 14); one whole number for each image is needed"),
    ({"labels": np.zeros(60)}, "{a}: labels is float64 of shape (60,); one whole number for each image is needed"),
    ({"labels": np.arange(59) % 3}, "{a}: images has shape (60, 9, 9, 3), labels (59,); their first sizes must agree"),
    ({"images": np.zeros((60, 9), np.uint8)}, "{a}: images: shape (60, 9); (N, H, W), (N, H, W, C) or (N, C, H, W) is needed"),
    (
        {"images": np.zeros((60, 28, 28, 28), np.uint8)},
        "{a}: images: shape (60, 28, 28, 28) does not tell where the channels are; set options.layout to NHWC or NCHW",
    ),
    ({"options": {"layout": "CHW"}}, "dataset mine: options.layout: 'CHW' is unknown; did you mean NCHW? allowed: NHWC, NCHW, null"),
    ({"images": arrays(shape=(8, 9, 3))[0]}, "{a}: images: images are 8 x 9; only square ones can be condensed, so crop or resize them"),
    (
        {"images": np.full((60, 9, 9), 1.5)},
        "{a}: images: values are float64 from 1.5 to 1.5; uint8, or floating-point numbers in [0, 1], are needed",
    ),
    (
        {"images": np.full((60, 9, 9), np.nan)},
        "{a}: images: values are float64 from nan to nan; uint8, or floating-point numbers in [0, 1], are needed",
    ),
    (
        {"images": np.full((60, 9, 9), -3)},
        "{a}: images: values are int64 from -3 to -3; uint8, or floating-point numbers in [0, 1], are needed",
    ),
    (
        {"images": np.zeros((60, 9, 9), bool)},
        "{a}: images: values are bool and no numbers; uint8, or floating-point numbers in [0, 1], are needed",
    ),
    ({"images": np.zeros((60, 9, 9), np.uint8)}, "{a}: images: channel 0 has one value in every training image; leave that channel out"),
    ({"images": np.zeros((0, 9, 9), np.uint8)}, "{a}: images has shape (0, 9, 9), labels (60,); there are no images in it"),
    ({"options": {"images": "x"}}, "{a}: options.images and options.labels go together; give both"),
    ({"options": {"images": "x", "labels": "labels"}}, "{a}: has no array x, only images, labels; correct the options"),
    ({"options": {"test_images": "x", "test_labels": "y"}}, "{a}: has no array x, only images, labels; correct the options"),
]


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
@pytest.mark.parametrize(("content", "line"), BAD_ARRAYS)
def test_bad_arrays(tmp_path, prepare, line_of, kind, content, line):
    images, labels = arrays()
    save(kind, tmp_path / "a.npz", images=content.get("images", images), labels=content.get("labels", labels))
    path = str(tmp_path / "a.npz")
    refused(prepare, line_of, tmp_path, kind, line.format(a=path), path=path, **content.get("options", {}))


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_arrays_under_other_names(tmp_path, prepare, line_of, kind):
    save(kind, tmp_path / "a.npz", x=np.zeros(3), y=np.zeros(3))
    line = f"{tmp_path}/a.npz: holds x, y; name the arrays in options.images and options.labels"
    refused(prepare, line_of, tmp_path, kind, line, path=str(tmp_path / "a.npz"))


def saying(where, text):
    return f"{where}: damaged, cut short, pickled or of another format ({text}"


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
@pytest.mark.parametrize("damage", [lambda data: data[:-300], lambda data: b"hello", lambda data: b""])
def test_a_damaged_file(tmp_path, prepare, line_of, kind, damage):
    path = tmp_path / "a.npz"
    save(kind, path, **dict(zip(("images", "labels"), arrays(), strict=True)))
    path.write_bytes(damage(path.read_bytes()))
    line = line_of(prepare, kind, path=str(path))
    assert line.startswith(saying(path, "")) and line.endswith("); save plain arrays again")
    assert left_in(tmp_path / "out") == []


class Trap:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_arrays_of_an_npz_that_are_changed_cut_or_pickled(tmp_path, prepare, line_of):
    images, labels = arrays()
    path, good = tmp_path / "a.npz", tmp_path / "good.npz"
    np.savez(good, labels=labels, images=images)
    data = bytearray(good.read_bytes())
    data[-3000] ^= 1
    path.write_bytes(data)
    assert line_of(prepare, "npz", path=str(path)).startswith(saying(f"{path}: images", "Bad CRC-32"))
    with zipfile.ZipFile(good) as whole, zipfile.ZipFile(path, "w") as cut:
        for name in whole.namelist():
            cut.writestr(name, whole.read(name)[: -5 if name == "images.npy" else None])
    assert line_of(prepare, "npz", path=str(path)).startswith(saying(f"{path}: images", "EOF: reading array data"))
    np.savez(path, images=np.array([Trap(tmp_path / "sprung")] * 3, object), labels=np.zeros(3, int))
    assert line_of(prepare, "npz", path=str(path)).startswith(saying(f"{path}: images", "Object arrays cannot be loaded"))
    assert left_in(tmp_path / "out") == [] and not (tmp_path / "sprung").exists()


def test_fortran_order_is_read(tmp_path, prepare):
    images, labels = arrays()
    digests = []
    for order in "CF":
        np.savez(tmp_path / f"{order}.npz", images=np.asarray(images, order=order), labels=labels)
        digests.append(datasets.load(prepare("npz", path=str(tmp_path / f"{order}.npz"))).digest)
    assert digests[0] == digests[1]


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


def test_a_torchvision_class_in_one_part(tmp_path, prepare):
    """FakeData draws image i with the seed i, the same at every reading."""
    arguments = {"size": 40, "image_size": [3, 12, 12], "num_classes": 2}
    data = datasets.load(prepare("torchvision_class", name="FakeData", arguments=arguments, size=6, mode="L"))
    assert (len(data.train), len(data.test), data.shape) == (32, 8, (1, 6, 6))
    assert data.classes == ("0", "1")


def test_a_torchvision_class_with_given_parts(tmp_path, prepare):
    """FakeData(i + offset) is image i of FakeData(offset): the two parts overlap by ten images."""
    options = {"train": {"random_offset": 0, "size": 30}, "test": {"random_offset": 20, "size": 20}}
    data = datasets.load(prepare("torchvision_class", name="FakeData", arguments={"image_size": [3, 8, 8], "num_classes": 2}, **options))
    assert (len(data.train), len(data.test)) == (30, 20)
    assert_close(data.train.images[20:], data.test.images[:10], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"name": "FashionMINST"}, "options.name: torchvision.datasets has no dataset class FashionMINST; its names are in torchvision's"),
        ({"name": "utils"}, "options.name: torchvision.datasets has no dataset class utils; "),
        (
            {"name": "FashionMNIST", "arguments": {"root": "/nowhere"}},
            "torchvision's FashionMNIST with {'root': '/nowhere', 'train': True}: Data",
        ),
        (
            {"name": "FakeData", "arguments": {"sise": 3}},
            "torchvision's FakeData with {'sise': 3}: FakeData.__init__() got an unexpected keyword",
        ),
        ({"name": "FakeData", "train": {}}, "options.train and options.test go together; give both"),
        (
            {"name": "FakeData", "train": {"size": 9}, "test": {"size": 9}, "test_fraction": 0.1},
            "dataset mine: options.test_fraction has no meaning, since torchvision's FakeData holds test images; remove it",
        ),
    ],
)
def test_torchvision_mistakes(tmp_path, prepare, line_of, options, line):
    assert line_of(prepare, "torchvision_class", **options).startswith(line)
    assert left_in(tmp_path) == []


def test_targets_that_are_no_classes(tmp_path, prepare, line_of, monkeypatch):
    from torchvision.datasets import FakeData

    monkeypatch.setattr(FakeData, "__getitem__", lambda self, index: (Image.new("L", (8, 8)), {"boxes": []}))
    line = "torchvision's FakeData: its targets are not one whole number an image; only classification can be condensed"
    refused(prepare, line_of, tmp_path, "torchvision_class", line, name="FakeData", arguments={"size": 9})

    def torn(self, index):
        if index == 5:
            raise OSError("image file is truncated")
        return Image.new("L", (8, 8)), index % 2

    monkeypatch.setattr(FakeData, "__getitem__", torn)
    monkeypatch.setattr(FakeData, "targets", [0, 1] * 10, raising=False)
    line = "torchvision's FakeData: item 5 cannot be read (image file is truncated); repair or remove it"
    refused(prepare, line_of, tmp_path, "torchvision_class", line, name="FakeData", arguments={"size": 20})
    monkeypatch.setattr(FakeData, "__getitem__", lambda self, index: (torch.zeros(3), index % 2))
    line = "torchvision's FakeData: item 0 is a Tensor, not a picture; use the npz or hdf5 kind for arrays"
    refused(prepare, line_of, tmp_path, "torchvision_class", line, name="FakeData", arguments={"size": 9})

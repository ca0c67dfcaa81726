"""Folder trees of any shape: every image is read into its class and part, or counted, or the tree is refused in one line."""

import io
import os
import re
import tempfile
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from esp_core import datasets
from esp_core.datasets.identity import identity
from esp_core.runtime.errors import UserError
from esp_core.stages.prepare import prepare

EXAMPLES = int(os.environ.get("ESP_FUZZ", "20"))
TESTS, TRAINS = ("test", "Test", "Testing", "val", "VALID", "dev-set"), ("train", "Training", "TRAIN_images")
CLASSES = ("a", "b", "cat & dog", "ä ö", "1", "01")
FOLDERS = (*CLASSES, *TESTS, *TRAINS, ".git", "__MACOSX", "@eaDir", "new\nline")
FILES = ("0.png", "1.PNG", "2.jpeg", "._3.png", "Thumbs.db", "notes.txt", "README", "4.heic")
KINDS = ("grey", "grey", "grey", "colour", "alpha", "frames", "broken", "link", "circle", "folder")
anything = st.lists(st.sampled_from(FOLDERS), max_size=4)
# Most trees of any names are refused, so the usual layouts are drawn more often.
part = st.sampled_from(["train", "Training", "test", "val"])
usual = st.tuples(part, st.sampled_from(["a", "b"])).map(list) | st.sampled_from(["a", "b"]).map(lambda name: [name])
places = st.tuples(st.one_of(usual, usual, anything), st.sampled_from(FILES), st.sampled_from(KINDS))
full = [("a",), ("b",)], [("train", "a"), ("train", "b")], [("train", "a"), ("train", "b"), ("Test", "a"), ("Test", "b")]
trees = st.tuples(st.sampled_from([(), *full]), st.lists(places, max_size=8))


def grow(root, tree):
    """Make the tree; the number of each image stands in its first two pixels."""
    start, more = tree
    made = [([*folder], f"x{i}.png", "grey") for folder in start for i in range(2)]
    for number, (folders, name, kind) in enumerate([*made, *more]):
        file = root.joinpath(*folders, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(file):
            continue
        if kind == "folder":
            file.mkdir()
        elif kind in ("link", "circle"):
            file.symlink_to(root.parent if kind == "link" else file)
        else:
            file.write_bytes(content(kind, number))


def content(kind, number):
    pixels = np.zeros((4, 4), np.uint8)
    pixels[0, :2] = number, 255 - number
    image, made = Image.fromarray(pixels), io.BytesIO()
    if kind == "frames":
        image.save(made, "GIF", save_all=True, append_images=[Image.new("L", (4, 4), 200)])
    else:
        {"alpha": image.convert("LA"), "colour": image.convert("RGB")}.get(kind, image).save(made, "PNG")
    return made.getvalue()[: 30 if kind == "broken" else None]


def visible_images(root):
    """All image files but the hidden ones, and the number in each."""
    files = [file for file in root.rglob("*") if file.is_file() and not file.is_symlink()]
    seen = [file for file in files if not re.search(r"/(\.|__MACOSX/|@eaDir/)", f"/{file.relative_to(root)}")]
    return [file for file in seen if file.suffix.lower() in (".png", ".jpeg")]


def numbers(split):
    return {int(image[0, 0, 0]): int(label) for image, label in zip(split.images, split.labels, strict=True)}


def test_every_image_is_read_or_counted_or_the_tree_is_refused():
    read = []

    @settings(max_examples=10 * EXAMPLES, deadline=None, derandomize="ESP_FUZZ_SEED" not in os.environ)
    @given(trees)
    def grown_and_prepared(tree):
        with tempfile.TemporaryDirectory() as folder:
            read.append(is_read(Path(folder), tree))

    grown_and_prepared()
    assert EXAMPLES < sum(read) < len(read)


def is_read(folder, tree):
    """Prepare a tree and look at what is made of it; False where it is refused."""
    root, out, log = folder / "own", folder / "out" / "made.h5", io.StringIO()
    root.mkdir()
    grow(root, tree)
    before = {*folder.rglob("*")}
    options = {"path": str(root), "mode": "L"}
    assert re.fullmatch("[0-9a-f]{16}", identity("imagefolder", options))
    try:
        with redirect_stderr(log):
            prepare({"dataset": "mine", "kind": "imagefolder", "options": options, "study_seed": 0}, out)
    except UserError as error:
        assert str(error).strip() and "\n" not in str(error).replace("new\nline", "")
        assert {*folder.rglob("*")} - before <= {out.parent}
        return False
    assert {*folder.rglob("*")} - before == {out.parent, out}
    check(root, datasets.load(out), log.getvalue())
    return True


def check(root, data, log):
    files = visible_images(root)
    left_out = [int(count) for count in re.findall(r"^mine: ([\d,]+) images .*left out", log, flags=re.MULTILINE)]
    assert len(data.train) + len(data.test) + sum(left_out) == len(files)
    places = {number: file.relative_to(root).parts for file in files if (number := number_in(file)) is not None}
    is_given = any(path.name in TESTS for path in root.iterdir())
    for name, split in (("train", data.train), ("test", data.test)):
        for number, label in numbers(split).items():
            assert data.classes[label] in places[number][:2]
            assert not is_given or (name == "test") == (places[number][0] in TESTS)


def number_in(file):
    try:
        with Image.open(file) as image:
            return int(np.asarray(image.convert("L"))[0, 0])
    except OSError:  # a broken one
        return None

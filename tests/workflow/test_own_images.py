"""A user's folder of images goes through to a condensed set and a Table 1 with nothing but a config file."""

import csv
import os
import re
import shutil

import numpy as np
from PIL import Image

from esp_core import datasets, load_condensed

CLASSES = ("daisy", "rose")


def write_images(folder):
    """Ten images a class of mixed sizes and modes: red ones and blue ones."""
    generator = np.random.default_rng(0)
    for channel, name in enumerate(CLASSES):
        for i in range(10):
            pixels = generator.integers(0, 60, (16 + 8 * (i % 2), 20, 3), dtype=np.uint8)
            pixels[..., 2 * channel] += 180
            path = folder / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def test_an_image_folder_becomes_a_condensed_set_and_a_table(bare, tmp_path):
    write_images(tmp_path / "flowers")
    copy = type(bare)(shutil.copytree(bare.folder, tmp_path / "repository"))
    options = {"path": str(tmp_path / "flowers"), "size": 16}
    methods = {"random": {}, "esp": copy.config["methods"]["esp"], "full": {}}
    copy.save({**copy.config, "datasets": {"flowers": {"kind": "imagefolder", "ipc": [2], "options": options}}, "methods": methods})
    copy.run()
    assert "Nothing to be done" in copy.run("--dry-run")
    results = copy.folder / "results" / "tiny"
    condensed = load_condensed(results / "distilled" / "flowers" / "ipc-2" / "esp.safetensors")
    assert condensed.classes == CLASSES and condensed.images.shape[1:] == (3, 16, 16)
    assert condensed.metadata["budget_used"] <= 2 * 2 * 3 * 16 * 16
    with (results / "tables" / "table1.csv").open() as file:
        rows = {(row["method"], row["dataset"]): row for row in csv.DictReader(file)}
    for method in methods:
        assert rows[method, "flowers"]["n"] == "2" and 0 <= float(rows[method, "flowers"]["mean"]) <= 100
    assert "flowers" in (results / "tables" / "table1.md").read_text()


def test_new_content_of_ones_own_file_is_noticed(bare, tmp_path):
    copy = type(bare)(shutil.copytree(bare.folder, tmp_path / "repository"))
    file, generator = tmp_path / "mine.npz", np.random.default_rng(0)
    content = {"images": generator.integers(0, 255, (20, 1, 16, 16), dtype=np.uint8), "labels": np.arange(20) % 2}
    np.savez(file, **content)
    copy.save({**copy.config, "datasets": {"mine": {"kind": "npz", "ipc": [1], "options": {"path": str(file)}}}})
    prepared = "results/tiny/data/mine.h5"
    copy.run(prepared)
    assert "Nothing to be done" in copy.run(prepared, "--dry-run")
    np.savez(file, **{**content, "images": 255 - content["images"]})
    assert re.search(r"^prepare +1$", copy.run(prepared, "--dry-run"), re.MULTILINE)
    os.utime(file, (0, 0))  # an older file in its place
    assert re.search(r"^prepare +1$", copy.run(prepared, "--dry-run"), re.MULTILINE)


def test_a_folder_that_grew_is_prepared_again(bare, tmp_path):
    write_images(tmp_path / "flowers")
    copy = type(bare)(shutil.copytree(bare.folder, tmp_path / "repository"))
    options = {"path": str(tmp_path / "flowers"), "size": 16}
    copy.save({**copy.config, "datasets": {"flowers": {"kind": "imagefolder", "ipc": [1], "options": options}}, "methods": {"random": {}}})
    prepared = "results/tiny/data/flowers.h5"
    copy.run(prepared)
    log = (copy.folder / "results/tiny/logs/prepare/flowers.log").read_text()
    assert "flowers: 2 classes\nflowers: 16 training images, 8 a class\nflowers: 4 test images, 2 a class\n" in log
    (tmp_path / "flowers" / ".DS_Store").write_text("seen")
    assert "Nothing to be done" in copy.run(prepared, "--dry-run")
    shutil.copytree(tmp_path / "flowers" / "rose", tmp_path / "flowers" / "tulip")
    copy.run(prepared)
    assert datasets.load(copy.folder / prepared).classes == ("daisy", "rose", "tulip")
    assert "Nothing to be done" in copy.run(prepared, "--dry-run")


def test_a_class_below_the_ipc_is_refused_before_any_expert(bare, tmp_path):
    """The bad cell is named once the data are there; cells without experts are made all the same."""
    copy = type(bare)(shutil.copytree(bare.folder, tmp_path / "repository"))
    generator, labels = np.random.default_rng(0), np.repeat([0, 1], [30, 6])
    np.savez(tmp_path / "mine.npz", images=generator.integers(0, 255, (36, 1, 16, 16), dtype=np.uint8), labels=labels)
    mine = {"kind": "npz", "ipc": [2, 10], "options": {"path": str(tmp_path / "mine.npz")}}
    copy.save({**copy.config, "datasets": {"mine": mine}, "methods": {"random": {}, "esp": copy.config["methods"]["esp"]}})
    printed = copy.run(check=False)
    told = "mine: class 1 has 5 training images, fewer than IPC 10; lower the IPC to 5 or add images"
    results = copy.folder / "results" / "tiny"
    logs = {log.relative_to(results / "logs").parts[0] for log in (results / "logs").rglob("*.log") if told in log.read_text()}
    assert f"error: {told}" in printed and "Traceback" not in printed
    assert logs == {"try_networks_and_sets", "try_distill_network", "distill"}
    assert not list(results.rglob("shard-*.h5*"))
    assert [path.name for path in results.rglob("*.safetensors")] == ["random.safetensors"]

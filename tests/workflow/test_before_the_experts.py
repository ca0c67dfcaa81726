"""What is checked, or fetched, once and early: a network that cannot teach, and official files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BROKEN = "def build(channels, size, classes):\n    raise ValueError('no such layer')\n"


@pytest.fixture
def copied(bare, tmp_path):
    """A copy of the workflow before its first run."""
    return type(bare)(Path(shutil.copytree(bare.folder, tmp_path / "repository")))


def test_a_network_that_cannot_be_built_fails_once_and_not_in_every_shard(copied):
    (copied.folder / "mine.py").write_text(BROKEN)
    copied.save({**copied.config, "distill_network": {"name": "mine:build"}, "experts": {"count": 6, "shard": 1}})
    said = copied.run("--quiet", "host", "reason", "--show-failed-logs", "--cores", "2", check=False)
    logs = copied.folder / "results" / "tiny" / "logs"
    assert (logs / "try_distill_network").exists() and not (logs / "train_experts").exists()
    assert "network mine:build: cannot be built for 1 x 16 x 16 images: ValueError: no such layer" in said
    (copied.folder / "mine.py").write_text("from esp_core.networks.convnet3 import build\n")
    assert "try_distill_network digits" in copied.planned()


@pytest.fixture
def pictured(copied, tmp_path):
    """A study of an official dataset, prepared from a mirror of few pictures."""
    copied.save({**copied.config, "datasets": {"tinyimagenet": {"ipc": [1], "options": {"sample": True}, "mirror": str(tmp_path / "one")}}})
    root, ids = tmp_path / "one" / "tiny-imagenet-200", ("n1", "n2")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    (root / "val" / "images").mkdir(parents=True)
    for number, name in enumerate(ids):
        (root / "train" / name / "images").mkdir(parents=True)
        for part, file in ((0, root / "train" / name / "images" / f"{name}.JPEG"), (1, root / "val" / "images" / f"{name}.JPEG")):
            Image.fromarray(pixels[2 * number + part]).save(file)
    (root / "wnids.txt").write_text("\n".join(ids))
    (root / "words.txt").write_text("".join(f"{name}\tword {name}\n" for name in ids))
    (root / "val" / "val_annotations.txt").write_text("".join(f"{name}.JPEG\t{name}\n" for name in ids))
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    copied.run("results/tiny/data/tinyimagenet.h5")
    return copied


def settings(repository, **changes):
    config = repository.config
    config["datasets"]["tinyimagenet"] |= changes
    repository.save(config)


def test_verified_files_stay_whatever_the_mirror_or_the_code_and_other_settings_are_noticed_beside_them(pictured, tmp_path):
    settings(pictured, mirror=str(tmp_path / "other"))
    pictured.append("esp_core.stages.download", "\nUSED = 1\n")
    (pictured.folder / "results/downloads/tinyimagenet/files.json").touch()
    assert not {job for job in pictured.planned() if job.startswith(("download", "prepare"))}
    settings(pictured, normalisation="published")
    assert "prepare tinyimagenet" in pictured.planned()

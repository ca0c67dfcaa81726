"""The package as a wheel, away from its checkout: its data lie in it, and people without Snakemake can condense with it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esp_core import load_condensed

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds the installed package, and nothing else of the checkout."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "esp_core", source / "esp_core", ignore=shutil.ignore_patterns("__pycache__"))
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(target), str(source)]
    subprocess.run(words, check=True, capture_output=True)
    return target


@pytest.fixture
def esp(installed, tmp_path):
    """Runs `esp` of the installed package in an empty folder."""

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(installed)}
        done = subprocess.run(
            [sys.executable, "-m", "esp_core", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stderr + done.stdout

    return run


def test_it_is_not_the_checkout(installed, tmp_path):
    command = [sys.executable, "-c", "import esp_core; print(esp_core.__file__)"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).is_relative_to(installed)
    assert (installed / "bin" / "esp").is_file()


def test_a_study_is_checked_and_planned(esp, tmp_path):
    shutil.copy(ROOT / ".test" / "config" / "config.yaml", tmp_path / "study.yaml")
    assert "distill digits 1 esp" in esp("study", "study.yaml").splitlines()
    assert "Study test on cpu" in esp("plan", "study.yaml")


def test_a_folder_of_images_is_condensed_and_the_classes_keep_their_names(esp, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 8, 8, 3), np.uint8)
    for name, images in zip(("cat", "dog"), pixels, strict=True):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / "pets" / name / f"{number}.png")
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("not a picture")
    said = esp("condense", "pets", "--method", "random", "--ipc", "2", "--out", "set.safetensors")
    assert "pets: 1 files ending in .txt left out, no known images\n" in said
    assert said.splitlines()[-1] == "set.safetensors: 4 images of 2 classes, from 10"
    data = load_condensed(tmp_path / "set.safetensors")
    assert data.classes == ("cat", "dog") and data.labels.tolist() == [0, 0, 1, 1]
    originals = {image.tobytes() for image in pixels[0]}
    assert {(image * 255).round().byte().permute(1, 2, 0).numpy().tobytes() for image in data.images[:2]} <= originals


def test_a_folder_is_condensed_and_the_set_tested_on_its_test_images(esp, tmp_path):
    generator = np.random.default_rng(0)
    for part, name, level in (("train", "cat", 0), ("train", "dog", 128), ("test", "cat", 0), ("test", "dog", 128)):
        (tmp_path / "pets" / part / name).mkdir(parents=True)
        for number in range(5):
            pixels = level + generator.integers(0, 128, (9, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / part / name / f"{number}.png")
    esp("condense", "pets", "--method", "random", "--ipc", "2", "--size", "8", "--out", "set.safetensors")
    for data in ("pets", "results/released/data/pets.h5"):  # which the first one makes
        said = esp("evaluate", "set.safetensors", "--data", data, "--seeds", "1", "--device", "cpu")
        assert re.fullmatch(r"convnet3: 100\.00 % \(n = 1\)", said.splitlines()[-1])

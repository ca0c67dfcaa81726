"""Files that are cut, flipped, spliced or made up: one clear word (UserError) or a correct reading, never a traceback.

The suite takes EXAMPLES inputs of each kind; `ESP_FUZZ=200 pytest tests/fuzz` takes two hundred, of other seeds with ESP_FUZZ_SEED.
"""

import csv
import io
import os
import random
import traceback

import numpy as np
import pytest
import torch
from dataset_files import save, tar, zipped
from handwritten_rows import put
from PIL import Image
from small import dataset, spec

from esp_core import datasets
from esp_core.datasets.downloading import unpack
from esp_core.distillation.checkpoint import Checkpoint
from esp_core.distillation.condensed import load_condensed, save_condensed
from esp_core.distillation.outer_loop import Distillation
from esp_core.reporting import reading
from esp_core.runtime.errors import UserError
from esp_core.stages import distill, plots
from esp_core.stages.prepare import prepare
from esp_core.trajectories import Trajectories, verification

EXAMPLES = int(os.environ.get("ESP_FUZZ", "20"))
SEED = int(os.environ.get("ESP_FUZZ_SEED", "0"))
CPU = torch.device("cpu")


def damaged(content, chance):
    """`content` with one to three injuries, most of them near the beginning, where the structure is."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        at = int(len(data) * chance.random() ** chance.choice([1, 3])) if data else 0
        kind = chance.choice(["flip", "cut", "zero", "splice", "repeat", "digit", "empty"])
        if kind == "flip" and data:
            data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
        elif kind == "cut":
            del data[at:]
        elif kind == "zero":
            data[at : at + 16] = bytes(len(data[at : at + 16]))
        elif kind == "splice":
            data[at:at] = chance.randbytes(chance.randint(1, 40))
        elif kind == "repeat":
            data[at:at] = data[at : at + chance.randint(1, 200)]
        elif kind == "digit":
            places = [i for i in range(at, min(len(data), at + 400)) if 48 <= data[i] < 58]
            for place in places[:1]:
                data[place] = chance.choice(b"0123456789-.e")
        elif kind == "empty" and chance.random() < 0.1:
            data.clear()
    return bytes(data)


def every(path, read, content=None):
    """Read `path` with EXAMPLES injuries to its content; returns how many of them were refused with a word."""
    content, refused, traces = content or path.read_bytes(), 0, []
    for number in range(EXAMPLES):
        chance = random.Random(f"{SEED} {path.name} {number}")
        path.write_bytes(damaged(content, chance))
        try:
            read(path)
        except UserError as error:
            assert str(error).strip(), number
            refused += 1
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            traces.append(f"{path.name}, injury {number}: {type(error).__name__}: {error} ({last.filename}, line {last.lineno})")
    assert not traces, "\n".join(traces)
    path.write_bytes(content)
    read(path)  # whole, it is read
    return refused


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared") / "digits.h5"
    prepare({"dataset": "digits", "kind": "digits", "options": {"size": 8}, "study_seed": 0}, path)
    return path


def test_a_prepared_dataset(prepared):
    def read(path):
        data = datasets.load(path, CPU)
        assert data.train.images.dtype == torch.uint8 and len(data.train.images) == len(data.train.labels)

    assert every(prepared, read) > 0


@pytest.fixture(scope="module")
def experts(tmp_path_factory, prepared):
    from trajectories.expert_specs import manifest_spec, shard_spec

    from esp_core.trajectories import manifest
    from esp_core.trajectories.train_shard import produce

    folder = tmp_path_factory.mktemp("experts")
    produce(shard_spec(), "code", prepared, folder / "shard-000.h5")
    manifest.build(folder / "manifest.json", manifest_spec(2), [folder / "shard-000.h5"])
    return folder


@pytest.mark.parametrize("name", ["shard-000.h5", "manifest.json"])
def test_expert_trajectories(experts, name):
    def read(_):
        store = Trajectories(experts / "manifest.json")
        assert torch.isfinite(store.segment(0, 0, 1)).all()

    whole = (experts / name).read_bytes()

    def verify(path):
        problems = verification.verify(experts / "manifest.json")
        if path.suffix == ".h5":
            assert bool(problems) == (path.read_bytes() != whole)  # whatever byte it is
        if problems:
            raise UserError(problems[0])

    assert every(experts / name, read) > 0
    assert every(experts / name, verify) > EXAMPLES / 2


def test_a_condensed_set(tmp_path):
    job = Distillation(spec("dm", iterations=0), dataset(), None, CPU)
    path = tmp_path / "set.safetensors"
    save_condensed(path, job.synthetic, job.recipe["parametrisation"], ("a", "b", "c"), {"spec": spec("dm")})

    def read(path):
        made = load_condensed(path)
        assert made.images.ndim == 4 and len(made.images) == len(made.labels)

    assert every(path, read) > 0


def test_a_checkpoint_is_taken_up_or_the_job_starts_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda *_: dataset())
    monkeypatch.setattr(distill, "CHECKPOINT_SECONDS", 0.0)
    out, job = tmp_path / "set.safetensors", spec("dm", iterations=2)
    part = out.with_name(out.name + ".part")
    saved = {}
    original = Checkpoint.save

    def keep(self, *arguments):
        original(self, *arguments)
        saved.setdefault("content", self.path.read_bytes())

    monkeypatch.setattr(Checkpoint, "save", keep)
    distill.run(job, tmp_path, None, out)
    whole = load_condensed(out).images

    def read(_):
        distill.run(job, tmp_path, None, out)
        assert torch.equal(load_condensed(out).images, whole)

    part.write_bytes(saved["content"])
    every(part, read)


def test_tables_of_runs_and_of_memory(tmp_path):
    path = put(tmp_path, "cifar10", 10, "esp", [60.0, 62.0, 64.5])
    assert every(path, lambda p: reading.read([p])) > 0
    memory = tmp_path / "figure7.csv"
    memory.write_text("axis,method,ipc,steps,bytes\nsteps,esp,10,1,5000000\nsteps,esp,10,2,6000000\nipc,esp,10,1,5000000\n")
    title = {"dataset": "digits", "at": 10, "titles": {}}
    every(memory, lambda p: plots.memory(title, plots.read_memory(p)))
    published = tmp_path / "published.csv"
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow("table,method,dataset,ipc,architecture,mean,std".split(","))
    writer.writerows([[1, "esp", "cifar10", ipc, "convnet3", 60 + ipc, 0.5] for ipc in (1, 10, 50)])
    published.write_text(text.getvalue())
    every(published, lambda p: reading.read_published(p))


def picture(chance):
    pixels = np.frombuffer(chance.randbytes(12 * 12 * 3), np.uint8).reshape(12, 12, 3)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, chance.choice(["PNG", "JPEG", "BMP", "GIF"]))
    return content.getvalue()


def own(kind, **options):
    """Prepare a user's own images into nothing: only that they are read counts."""
    return lambda path: prepare(
        {"dataset": "mine", "kind": kind, "options": {"path": str(path), **options}, "study_seed": 0}, path.with_name("made.h5")
    )


def test_a_users_npz_and_hdf5(tmp_path):
    chance = np.random.default_rng(0)
    arrays = {
        "train_images": chance.integers(0, 256, (20, 8, 8, 3), np.uint8),
        "train_labels": np.arange(20) % 2,
        "test_images": chance.integers(0, 256, (6, 8, 8, 3), np.uint8),
        "test_labels": np.arange(6) % 2,
    }
    for kind in ("npz", "hdf5"):
        save(kind, tmp_path / f"own.{kind}", **arrays)
        assert every(tmp_path / f"own.{kind}", own(kind)) > 0


def test_a_folder_with_a_damaged_picture(tmp_path):
    chance = random.Random(1)
    for part in ("train", "test"):
        for label in ("a", "b"):
            folder = tmp_path / "own" / part / label
            folder.mkdir(parents=True)
            for i in range(3):
                (folder / f"{i}.png").write_bytes(picture(chance))
    victim = tmp_path / "own" / "train" / "a" / "1.png"
    read = own("imagefolder", size=8, mode="RGB")
    assert every(victim, lambda _: read(tmp_path / "own")) > 0


def archive(kind, files):
    return zipped(files) if kind == "zip" else tar(files, "w:gz" if kind == "tar.gz" else "w")


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_an_archive_is_unpacked_into_its_place_or_refused(kind, tmp_path):
    chance = random.Random(2)
    files = {f"official/{name}": chance.randbytes(900) for name in ("a.bin", "b.bin", "c/d.bin")}
    path, place = tmp_path / f"data.{kind}", tmp_path / "place"
    path.write_bytes(archive(kind, files))

    def read(path):
        try:
            unpack(path, place, lambda name: name.startswith("official/"), "get it again")
        finally:
            assert {p.name for p in tmp_path.iterdir()} <= {path.name, "place"}

    assert every(path, read) > 0

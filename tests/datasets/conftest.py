"""Small made-up files in the official layouts, and commands run in this process."""

import json
import sys
from dataclasses import replace

import pytest
from dataset_files import cifar_records, digest, tar, zipped
from official_server import FOLDER, Server, official

from esp_core import datasets
from esp_core.datasets import fetching
from esp_core.datasets.catalogue import ENTRIES
from esp_core.stages import download as download_stage
from esp_core.stages import prepare as prepare_stage


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    """Run the stage on a spec; return the file that it writes, alone in its folder."""

    def run(kind, files=None, out=tmp_path / "out" / "data.h5", seed=0, dataset="mine", **options):
        spec = {"dataset": dataset, "kind": kind, "options": options, "study_seed": seed}
        more = ["--files", str(files)] if files else []
        monkeypatch.setattr(sys, "argv", ["prepare", "--spec", json.dumps(spec), "--out", str(out), *more])
        prepare_stage.main()
        return out

    return run


@pytest.fixture
def download(tmp_path, monkeypatch):
    """Run the stage on a spec; return files.json."""
    monkeypatch.delenv("ESP_MIRROR", raising=False)

    def run(kind, mirror=None, out=tmp_path / "downloads" / "files.json"):
        spec = {"dataset": kind, "kind": kind, "mirror": str(mirror) if mirror else None}
        monkeypatch.setattr(sys, "argv", ["download", "--spec", json.dumps(spec), "--out", str(out)])
        download_stage.main()
        return out

    return run


@pytest.fixture
def line_of():
    """The one line with which a command ends; exit code 1 is what Python gives to sys.exit with a text."""

    def run(command, *arguments, **options):
        with pytest.raises(SystemExit) as stopped:
            command(*arguments, **options)
        line = stopped.value.code
        assert isinstance(line, str) and line.startswith("error: ") and "\n" not in line
        return line.removeprefix("error: ")

    return run


@pytest.fixture
def listed(tmp_path):
    """files.json for files that were put into a folder by hand."""

    def write(folder, *names):
        files = [{"name": name, "size": (folder / name).stat().st_size, "sha256": digest(folder / name)} for name in names]
        path = tmp_path / "files.json"
        path.write_text(json.dumps({"folder": str(folder), "from": "here", "verified": "members", "files": files}))
        return path

    return write


@pytest.fixture
def said(capsys):
    """The lines of the log but those of progress: classes, training images, test images, and the remarks."""

    def lines():
        return [line.removeprefix("mine: ") for line in capsys.readouterr().err.splitlines() if "images/s" not in line]

    return lines


@pytest.fixture
def root(tmp_path):
    return tmp_path / "photos"


@pytest.fixture
def read(root, prepare):
    """The prepared dataset of `root`."""
    return lambda **options: datasets.load(prepare("imagefolder", path=str(root), **options))


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSES", (0.0, 0.0, 0.0, 0.0))
    for variable in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def cifar(monkeypatch, server):
    """A CIFAR-100 of 100 images a part, whose official server is `server`; returns its members' bytes and its archive's."""
    files = {f"{name}.bin": cifar_records([[i % 20, i] for i in range(100)], seed)[0] for seed, name in enumerate(("train", "test"))}
    archive = tar({f"{FOLDER}/{name}": content for name, content in files.items()} | {f"{FOLDER}/readme.html": b"hello"})
    members = tuple(official(*file) for file in files.items())
    entry = replace(ENTRIES["cifar100"], url=server.url, archive=official(f"{FOLDER}.tar.gz", archive), members=members)
    monkeypatch.setitem(ENTRIES, "cifar100", entry)
    server.files[f"{FOLDER}.tar.gz"] = archive
    return files, archive


@pytest.fixture
def tiny(monkeypatch, server):
    """A TinyImageNet of text files, whose members have no digests on record."""
    files = {"wnids.txt": b"n1\n", "train/n1/images/a.JPEG": b"picture", "test/images/b.JPEG": b"unlabelled"}
    archive = zipped({f"tiny-imagenet-200/{name}": content for name, content in files.items()})
    entry = replace(ENTRIES["tinyimagenet"], url=server.url, archive=official("tiny-imagenet-200.zip", archive))
    monkeypatch.setitem(ENTRIES, "tinyimagenet", entry)
    server.files["tiny-imagenet-200.zip"] = archive
    return files, archive

"""Small made-up files in the official layouts, and commands run in this process."""

import json
import sys

import pytest
from dataset_files import digest

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

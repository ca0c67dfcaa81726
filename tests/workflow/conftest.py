"""A copy of the workflow in a temporary folder with a study of seconds, run once for all tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "study": "tiny",
    "device": "cpu",
    "datasets": {"digits": {"ipc": [1, 2], "options": {"size": 16}}},
    "distill_network": {"name": "convnet3", "width": 8, "depth": 3},
    "experts": {"count": 2, "shard": 1, "keep": 3, "epochs": 2, "lr": 0.05},
    "methods": {
        "dm": {"iterations": 3, "real_batch": 8},
        "esp": {
            "iterations": 3,
            "real_batch": 8,
            "teacher": {"length": 1, "steps": 2, "start_max": 1},
            "parametrisation": {"decoders": 2, "code_channels": 1, "width": 2},
        },
    },
    "evaluation": {"seeds": 2, "epochs": 2},
}


class Repository:
    """A copy of the parts that the workflow runs on; `config` is its study, written by `save`."""

    def __init__(self, folder: Path):
        self.folder, self.config_file = folder, folder / "config" / "tiny.yaml"

    @property
    def config(self):
        return yaml.safe_load(self.config_file.read_text())

    def save(self, config):
        self.config_file.write_text(yaml.safe_dump(config, sort_keys=False))

    def command(self, *arguments):
        # The last option, as in the profiles, ends the list of config files.
        return [sys.executable, "-m", "snakemake", "--configfile", "config/tiny.yaml", "--keep-going", *arguments]

    @property
    def environment(self):
        return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(self, *arguments, check=True):
        """Run Snakemake; its output, stderr included."""
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert not check or done.returncode == 0, done.stdout
        return done.stdout

    def planned(self):
        """The jobs of a dry run, each as its rule and wildcards: "distill digits 1 esp"."""
        blocks = re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)*)", self.run("--dry-run", "--quiet", "host"), flags=re.MULTILINE)
        found = {(rule, m[1] if (m := re.search(r"wildcards: study=tiny(?:, )?(.*)", body)) else "") for rule, body in blocks}
        return {" ".join([rule, *re.findall(r"=([^,]*)", wildcards)]) for rule, wildcards in found if rule != "all"}

    def append(self, module, text):
        """Add `text` to the end of a module."""
        path = self.folder.joinpath(*module.split(".")).with_suffix(".py")
        assert path.is_file()
        path.write_text(path.read_text() + text)


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """The copy before its first run; not to be changed."""
    folder = tmp_path_factory.mktemp("bare") / "repository"
    for name in ("esp_core", "workflow", "config"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "environment.yml", folder)
    for path in (folder / "workflow" / "rules").glob("*.smk"):  # so that Snakemake shows rules and wildcards, which the tests read
        path.write_text(re.sub(r"^    message:\n.*\n", "", path.read_text(), flags=re.MULTILINE))
    repository = Repository(folder)
    repository.save(TINY)
    return repository


@pytest.fixture(scope="session")
def finished(bare, tmp_path_factory):
    """The copy after its first run; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "repository"
    shutil.copytree(bare.folder, folder)
    repository = Repository(folder)
    repository.run()
    return repository


@pytest.fixture
def repository(finished, tmp_path):
    """A finished copy of one's own, with the dates that the first run left."""
    return Repository(Path(shutil.copytree(finished.folder, tmp_path / "repository")))

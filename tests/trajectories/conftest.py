"""Digits of 8x8 pixels, and experts on them that train in a second."""

import json

import pytest
from trajectories.expert_specs import manifest_spec, shard_spec

from esp_core.stages import experts
from esp_core.stages.prepare import prepare


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "digits.h5"
    prepare({"dataset": "digits", "kind": "digits", "options": {"size": 8}, "study_seed": 0}, path)
    return path


@pytest.fixture
def command(monkeypatch):
    """Run `python -m esp_core experts` in this process."""

    def run(*arguments):
        words = [json.dumps(a) if isinstance(a, dict) else str(a) for a in arguments]
        monkeypatch.setattr("sys.argv", ["esp_core.stages.experts", *words])
        experts.main()

    return run


@pytest.fixture(scope="session")
def make(digits):
    """Train a shard: make(path, **changes of SPEC) -> path."""
    from esp_core.trajectories.train_shard import produce

    def one(path, code="code", **changes):
        produce(shard_spec(**changes), code, digits, path)
        return path

    return one


@pytest.fixture(scope="session")
def stored(make, tmp_path_factory):
    """A folder with two shards of two experts and their manifest. Copy it before changing anything."""
    from esp_core.trajectories import manifest

    folder = tmp_path_factory.mktemp("stored")
    shards = [make(folder / f"shard-00{i}.h5", first=2 * i) for i in range(2)]
    manifest.build(folder / "manifest.json", manifest_spec(4), shards)
    return folder

import json
import subprocess
import sys

import pytest
from trajectories.expert_specs import manifest_spec, shard_spec

from esp_core.study.provenance import source_digest


def test_train_list_verify(command, digits, tmp_path, capsys):
    shards = []
    for first in (0, 2):
        shards.append(tmp_path / f"shard-{first // 2:03}.h5")
        command("train", "--spec", shard_spec(first=first), "--data", digits, "--out", shards[-1])
    command("manifest", "--spec", manifest_spec(4), "--shards", *shards, "--out", tmp_path / "manifest.json")
    command("verify", tmp_path / "manifest.json")
    out = capsys.readouterr().out
    assert "manifest.json: 4 experts, accuracy" in out
    assert "not compiled: " in out
    assert out.endswith(f"{tmp_path / 'manifest.json'}: all is well\n")
    assert len(json.loads((tmp_path / "manifest.json").read_text())["experts"]) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", "shard-000.h5", "shard-001.h5"]


def test_problems_end_with_one_line_each_and_exit_code_1(command, stored, tmp_path):
    path = tmp_path / "shard-000.h5"
    path.write_bytes((stored / "shard-000.h5").read_bytes()[:-1])
    with pytest.raises(SystemExit) as exit:
        command("verify", path)
    assert exit.value.code.startswith(f"error: {path}: truncated or changed since it was written; delete it")
    assert "\n" not in exit.value.code


def test_help_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "esp_core", "experts", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "verify" in done.stdout
    assert not any(line.split("|")[-1].strip() in ("torch", "h5py", "numpy") for line in done.stderr.splitlines())


def test_reading_and_listing_are_no_part_of_what_retrains():
    """Editing the reader, the manifest or the checks must not change the digest of a training job."""
    from esp_core.study import provenance

    seen = set()
    original = provenance._parsed

    def spy(module):
        seen.add(module)
        return original(module)

    provenance._parsed = spy
    try:
        source_digest("esp_core.stages.experts", "esp_core.networks.convnet3")
    finally:
        provenance._parsed = original
    assert {"esp_core.trajectories.store", "esp_core.training.epoch", "esp_core.training.engine", "esp_core.augment.dsa"} <= seen
    assert not seen & {f"esp_core.trajectories.{name}" for name in ("reader", "manifest", "verification", "subspace")}
    assert "esp_core.training.protocol" not in seen  # the protocols of evaluations


def test_a_network_of_an_installed_package_is_not_part_of_the_code(command, digits, tmp_path, monkeypatch):
    from esp_core.trajectories import train_shard

    seen = []
    monkeypatch.setattr(train_shard, "produce", lambda spec, code, *others: seen.append(code))
    for name in ("convnet3", "torchvision.models:resnet18"):
        command("train", "--spec", shard_spec() | {"network": {"name": name}}, "--data", digits, "--out", tmp_path / "shard.h5")
    assert seen == [source_digest("esp_core.stages.experts", "esp_core.networks.convnet3"), source_digest("esp_core.stages.experts")]

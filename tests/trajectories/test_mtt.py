"""Buffers of MTT's code: ours are read by its loader's logic, and what is read again teaches as before."""

import json
import os

import pytest
import torch
from trajectories.expert_specs import SPEC, shard_spec

from esp_core.runtime.errors import UserError
from esp_core.stages import distill
from esp_core.stages.prepare import prepare
from esp_core.study import methods
from esp_core.trajectories import Trajectories, mtt

DISTILL = {
    "study_seed": 0,
    "dataset": "digits",
    "ipc": 1,
    "method": "mine",
    "network": {key: SPEC["network"][key] for key in ("depth", "width", "name")},
    "experts": {"total": 4},
    "recipe": methods.recipe("dm", custom={"dm": {"iterations": 1, "teacher": {"kind": "experts", "length": 1, "start_max": 1}}}),
}


@pytest.fixture
def buffers(stored, command, tmp_path):
    command("export", stored / "manifest.json", "--mtt", tmp_path / "buffers")
    return tmp_path / "buffers"


def loaded(folder):
    """As MTT's distill.py reads: buffer after buffer, as long as there is one of the next number."""
    buffer, n = [], 0
    while (folder / f"replay_buffer_{n}.pt").exists():
        buffer += torch.load(folder / f"replay_buffer_{n}.pt", weights_only=True)
        n += 1
    return buffer


def joined(params):
    """As MTT's distill.py joins the parameters of a snapshot."""
    return torch.cat([p.data.reshape(-1) for p in params], 0)


def test_a_buffer_of_ours_is_read_by_mtts_loader(buffers, stored):
    experts, found = Trajectories(stored / "manifest.json"), loaded(buffers)
    assert [len(trajectory) for trajectory in found] == [4] * 4
    for number, trajectory in enumerate(found):
        assert [tuple(p.shape) for p in trajectory[0]] == [shape for _, shape in experts.layout]
        assert torch.equal(torch.stack([joined(snapshot) for snapshot in trajectory]), experts.segment(number, 0, 3))


def test_imported_experts_are_the_same_and_a_distillation_takes_them(buffers, stored, digits, command, tmp_path, capsys):
    command("import", "--mtt", buffers, "--data", digits, "--out", tmp_path / "mine")
    assert "manifest.json: 4 experts of 4 snapshots, accuracy " in capsys.readouterr().out
    path = tmp_path / "mine" / "manifest.json"
    ours, theirs = Trajectories(stored / "manifest.json"), Trajectories(path)
    for number, trajectory in enumerate(loaded(buffers)):
        exact, segment = torch.stack([joined(snapshot) for snapshot in trajectory]), theirs.segment(number, 0, 3)
        assert (segment - exact).abs().max() <= 2**-11 * exact[0].abs().max()  # float16's rounding of the largest weight
        found, listed = (experts.manifest["experts"][number]["accuracy"] for experts in (theirs, ours))
        assert found == pytest.approx(listed, abs=0.6)
    command("verify", path)
    distill.run(DISTILL, digits, path, tmp_path / "set.safetensors")
    with pytest.raises(UserError, match=r"experts of experts.total 4, this job has 5"):
        distill.run(DISTILL | {"experts": {"total": 5}}, digits, path, tmp_path / "other.safetensors")
    assert json.loads(path.read_text())["shards"][1]["engine"]["file"] == "replay_buffer_1.pt"


def test_settings_that_are_left_out_name_the_same_network(make, digits, tmp_path):
    from esp_core.trajectories import manifest

    network = {"name": "convnet3", "width": 4, "depth": 3}
    spec = shard_spec(network={"name": "convnet3", "width": 4}, count=1)
    shard = make(tmp_path / "shard-000.h5", network=spec["network"], count=1)
    experts = {key: value for key, value in spec.items() if key not in ("first", "count")} | {"total": 1, "shard": 1}
    manifest.build(tmp_path / "manifest.json", experts, [shard])
    opened = Trajectories(tmp_path / "manifest.json")
    opened.check({"dataset": "digits", "network": network, "experts": {"total": 1}}, opened.manifest["data"])


class Planted:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("planted",))


def edited(change):
    def write(folder):
        content = loaded(folder)[:2]
        made = change(content)
        torch.save(made if isinstance(made, dict) else content, folder / "replay_buffer_1.pt")

    return write


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda folder: torch.save([Planted()], folder / "replay_buffer_1.pt"), "replay_buffer_1.pt: damaged, or holds more than tensors"),
        (lambda folder: (folder / "replay_buffer_1.pt").write_bytes(b"no"), "replay_buffer_1.pt: damaged, or holds more than tensors"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], r"buffers: holds no replay_buffer_\*.pt; give the folder"),
        (edited(lambda found: {"data": found}), "replay_buffer_1.pt: no list of trajectories of snapshots of parameters"),
        (edited(lambda found: found[1].pop()), "trajectory 1: 3 snapshots, but the first one has 4"),
        (edited(lambda found: found[1][2].pop()), r"trajectory 1: 9 parameters, but a ConvNet for digits has 10"),
        (edited(lambda found: found[0][3].reverse()), r"trajectory 0: blocks.0.weight is \(10,\), but \(4, 1, 3, 3\) in a ConvNet"),
        (edited(lambda found: found[0][1][0].fill_(torch.nan)), "trajectory 0: weights that are not finite"),
    ],
)
def test_what_is_no_buffer_of_such_networks_is_one_line(damage, line, buffers, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    damage(buffers)
    with pytest.raises(UserError, match=line) as error:
        mtt.read(buffers, digits, tmp_path / "mine")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "planted").exists() and not (tmp_path / "mine" / "manifest.json").exists()


def test_what_is_said_of_whitening_must_fit_the_data(buffers, digits, tmp_path):
    white = tmp_path / "white.h5"
    prepare({"dataset": "digits", "kind": "digits", "options": {"size": 8}, "study_seed": 0, "whiten": "zca"}, white)
    with pytest.raises(UserError, match="--whitened: digits is not whitened; prepare it with whiten: zca, or leave --whitened out"):
        mtt.read(buffers, digits, tmp_path / "mine", whitened=True)
    with pytest.raises(UserError, match="--whitened: missing, but digits is whitened; give it if"):
        mtt.read(buffers, white, tmp_path / "mine")
    mtt.read(buffers, white, tmp_path / "mine", whitened=True)
    with pytest.raises(UserError, match="its experts were trained on other data"):
        distill.run(DISTILL, digits, tmp_path / "mine" / "manifest.json", tmp_path / "set.safetensors")


def test_buffers_are_not_overwritten(buffers, stored):
    with pytest.raises(UserError, match="buffers: holds buffers already; give another folder"):
        mtt.write(stored / "manifest.json", buffers)

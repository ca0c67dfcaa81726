"""What is on the disk: sizes, digests, and that every kind of damage is named."""

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from trajectories.expert_specs import content, manifest_spec, shard_spec

from esp_core.runtime.errors import UserError
from esp_core.trajectories import manifest, reader, store
from esp_core.trajectories.reader import Trajectories
from esp_core.trajectories.verification import verify

MTT_BYTES = 65_423_947  # what MTT's own code keeps of one expert: 51 snapshots of ConvNet-3 in float32
DOCS = Path(__file__).parents[2] / "docs/experts.md"


@pytest.fixture
def folder(stored, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(stored, tmp_path / "experts")


def flip(path, place):
    """Change one bit of the byte at `place`."""
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def forge(path, **facts):
    """Write a shard's experts again under other facts."""
    with h5py.File(path) as file:
        own = {name: json.loads(text) for name, text in file.attrs.items()}
        names = ("steps", "scale", "accuracy", "loss", "seconds")
        experts = [store.Expert(*(file[name][row] for name in names)) for row in range(2)]
    store.write(path, own | facts, experts, 2, 4, 3)


def rebuild(folder):
    return manifest.build(folder / "manifest.json", manifest_spec(4), sorted(folder.glob("*.h5")))


@pytest.mark.parametrize("keep, share", [(51, 0.5), (25, 0.25)])
def test_bytes_an_expert_at_the_paper_s_size(tmp_path, keep, share):
    snapshots = np.random.default_rng(0).normal(size=(keep, 320_010)).astype(np.float32)
    expert = store.Expert(*store.encode(snapshots), 50.0, [1.0] * 50, 1.0)
    store.write(tmp_path / "shard.h5", {"layout": [("weight", [320_010])]}, [expert], 1, keep, 50)
    assert (tmp_path / "shard.h5").stat().st_size <= share * MTT_BYTES


def test_the_lines_in_the_docs_open_a_shard_with_h5py_alone(stored, tmp_path, monkeypatch):
    (lines,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(lines.strip().splitlines()) <= 6 and "esp_core" not in lines
    (path,) = re.findall(r'h5py\.File\("(.*?)"\)', lines)
    (tmp_path / path).parent.mkdir(parents=True)
    shutil.copy(stored / "shard-000.h5", tmp_path / path)
    monkeypatch.chdir(tmp_path)
    exec(lines, found := {})
    experts = Trajectories(stored / "manifest.json")
    assert np.array_equal(found["weights"], experts.segment(0, 0, 3))
    assert [(name, tuple(shape)) for name, shape in found["layout"]] == experts.layout


def test_sound_stores_verify(stored):
    assert verify(stored / "manifest.json") == []
    assert verify(stored / "shard-001.h5") == []


def test_every_byte_of_a_shard_counts(folder):
    """Wherever a byte is flipped, in HDF5's own structures or in padding, the check of the shard alone sees it, and ends."""
    path = folder / "shard-000.h5"
    whole = path.read_bytes()
    for place in [*range(0, 130, 3), *np.random.default_rng(0).integers(0, len(whole), 150).tolist()]:
        flip(path, place)
        (line,) = verify(path)
        assert re.match(f"{path}: (truncated or changed|not a shard of expert trajectories of this version).*; delete it", line)
        path.write_bytes(whole)
    assert verify(path) == []


def test_a_flipped_byte_is_named_when_its_expert_is_used(folder):
    path = folder / "shard-001.h5"
    entry = reader.load(folder / "manifest.json")["shards"][1]
    with h5py.File(path) as file:
        nbytes = file["steps"].nbytes
    flip(path, entry["offset"] + nbytes - 1)  # in the last snapshot of expert 3
    experts = Trajectories(folder / "manifest.json")
    assert experts.segment(2, 0, 1).isfinite().all()
    with pytest.raises(UserError, match=r"shard-001.h5: expert 3 has changed since it was written; delete it"):
        experts.segment(3, 0, 1)
    for target in (path, folder / "manifest.json"):
        (line,) = verify(target)
        assert line.startswith(f"{path}: truncated or changed since it was written; delete it and the manifest.json")
    with pytest.raises(UserError, match=r"shard-001.h5: truncated or changed"):
        rebuild(folder)


def test_a_truncated_shard_is_named_by_all_who_open_it(folder):
    path = folder / "shard-001.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"shard-001.h5: truncated: \d+ of \d+ bytes; delete it"):
        Trajectories(folder / "manifest.json")
    with pytest.raises(UserError, match=r"shard-001.h5: truncated or changed"):
        rebuild(folder)


def test_a_shard_that_becomes_shorter_in_use_is_named(folder):
    path = folder / "shard-001.h5"
    experts = Trajectories(folder / "manifest.json")
    experts.segment(3, 0, 3)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(UserError, match=r"shard-001.h5: it became shorter while it was in use; delete it"):
        experts.segment(3, 0, 3)


def test_a_missing_shard_is_named(folder):
    (folder / "shard-000.h5").unlink()
    for use in (Trajectories, manifest.Shard):
        with pytest.raises(UserError, match=r"shard-000.h5: no such shard; run the workflow"):
            use(folder / ("manifest.json" if use is Trajectories else "shard-000.h5"))


def test_a_foreign_file_is_named_even_where_its_digest_is_right(folder):
    path = folder / "shard-000.h5"
    with h5py.File(path, "w", userblock_size=store.HEAD) as file:
        file["steps"] = np.zeros(3)
    with pytest.raises(UserError, match=r"shard-000.h5: not a shard of expert trajectories of this version; delete it"):
        rebuild(folder)
    with path.open("r+b") as file:
        file.write(store.head(store.body_digest(path)))
    with pytest.raises(UserError, match=r"shard-000.h5: not a shard of expert trajectories \(KeyError.*delete it"):
        rebuild(folder)


@pytest.mark.parametrize(
    "facts, told",
    [
        ({"spec": shard_spec(first=2, lr=0.01)}, r"made with training.lr 0.01, this study has 0.05"),
        ({"data": "0123456789abcdef"}, r"made with data 0123456789abcdef, the first shard has \w{16}"),
        ({"code": "old"}, r"made with code old, the first shard has code"),
    ],
)
def test_a_shard_of_another_study_or_other_data_is_named_with_what_differs(folder, facts, told):
    path = folder / "shard-001.h5"
    forge(path, **facts)
    with pytest.raises(UserError, match=rf"shard-001.h5: {told}; delete it"):
        rebuild(folder)
    with pytest.raises(UserError, match=r"shard-001.h5: not the shard that the manifest lists; delete it"):
        Trajectories(folder / "manifest.json")
    assert verify(path) == []
    assert verify(folder / "manifest.json") == [f"{path}: not the shard that the manifest lists; {reader.REBUILD}"]


def test_a_manifest_lists_what_is_there(stored):
    listed = reader.load(stored / "manifest.json")
    assert listed["spec"] == manifest_spec(4)
    assert listed["snapshots"] == 4
    assert [shard["first"] for shard in listed["shards"]] == [0, 2]
    assert [expert["expert"] for expert in listed["experts"]] == [0, 1, 2, 3]
    assert listed["experts"][2]["digest"] == content(stored / "shard-001.h5")["digest"][0].decode()
    assert 0 < listed["experts"][2]["accuracy"] <= 100
    assert listed["shards"][0]["bytes"] == (stored / "shard-000.h5").stat().st_size
    assert listed["shards"][0]["engine"]["precision"] == "float32"


@pytest.mark.parametrize(
    "total, names, message",
    [
        (4, ["shard-000.h5"], "the shards hold 2 experts, the study has 4"),
        (2, ["shard-001.h5"], "expert 0 is in no shard or in two: shard-001.h5 begins with 2"),
        (4, ["shard-000.h5", "shard-000.h5"], "expert 2 is in no shard or in two"),
        (4, [], "no shards were given"),
    ],
)
def test_incomplete_shards_are_refused(stored, tmp_path, total, names, message):
    with pytest.raises(UserError, match=message):
        manifest.build(tmp_path / "manifest.json", manifest_spec(total), [stored / name for name in names])


def test_what_is_no_manifest_is_refused(stored, tmp_path):
    path = tmp_path / "manifest.json"
    with pytest.raises(UserError, match="no such manifest"):
        reader.load(path)
    for text in ("{", "[]", '{"format": "other"}'):
        path.write_text(text)
        with pytest.raises(UserError, match="not a manifest"):
            reader.load(path)
    path.write_text((stored / "manifest.json").read_text().replace('"count": 2', '"count": 1'))
    with pytest.raises(UserError, match="it has changed since it was written"):
        reader.load(path)


def test_growing_a_study_leaves_its_shards_alone(stored):
    """Shards know their experts, not how many the study has."""
    assert "total" not in manifest.Shard(stored / "shard-000.h5").facts["spec"]

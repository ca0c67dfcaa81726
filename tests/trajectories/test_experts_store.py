"""What is on the disk: sizes, digests, and that every kind of damage is named."""

import json
import shutil

import h5py
import numpy as np
import pytest
from trajectories.expert_specs import manifest_spec, shard_spec

from esp_core import networks
from esp_core.errors import UserError
from esp_core.networks.flat import FlatNetwork
from esp_core.trajectories import manifest, store
from esp_core.trajectories.reader import Trajectories
from esp_core.trajectories.shard import Shard
from esp_core.trajectories.verification import verify

MTT_BYTES = 65_423_947  # what MTT's own code keeps of one expert: 51 snapshots of ConvNet-3 in float32


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


def place_of(path, name, index=0):
    """Where the values of a dataset begin in the file, plus `index` bytes."""
    with h5py.File(path) as file:
        return file[name].id.get_offset() + index


@pytest.mark.parametrize("keep, share", [(51, 0.5), (25, 0.25)])
def test_bytes_an_expert_at_the_paper_s_size(tmp_path, keep, share):
    layout = [(name, list(shape)) for name, shape in FlatNetwork(networks.build("convnet3", 3, 32, 10)).layout]
    snapshots = np.random.default_rng(0).normal(size=(keep, 320_010)).astype(np.float32)
    expert = store.compact(snapshots, layout, 50.0, [1.0] * 50, 1.0)
    store.write(tmp_path / "shard.h5", {"layout": layout}, [expert], 1, keep, 50)
    assert (tmp_path / "shard.h5").stat().st_size <= share * MTT_BYTES


def test_sound_stores_verify(stored):
    assert verify(stored / "manifest.json") == []
    assert verify(stored / "shard-001.h5") == []


@pytest.mark.parametrize("name, row_bytes", [("columns", None), ("scales", None), ("accuracy", 4), ("loss", 12)])
def test_a_flipped_byte_names_shard_and_expert(folder, name, row_bytes):
    path = folder / "shard-001.h5"
    with h5py.File(path) as file:
        row = file[name].nbytes // 2
    flip(path, place_of(path, name, row + (row_bytes or row) // 2))  # in the second row, which is expert 3
    expected = [f"{path}: expert 3: its digest differs: bytes have changed since it was written; delete it and the manifest.json"]
    for target in (path, folder / "manifest.json"):
        found = verify(target)
        assert [line.partition(" beside it")[0] for line in found] == expected


def test_every_byte_of_a_shard_counts(folder):
    """Wherever a byte is flipped, the manifest's check sees it."""
    path = folder / "shard-000.h5"
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 25).tolist():
        flip(path, place)
        (line,) = verify(folder / "manifest.json")
        assert "shard-000.h5" in line
        path.write_bytes(whole)
    assert verify(folder / "manifest.json") == []


def test_a_truncated_shard_is_named_by_all_who_open_it(folder):
    path = folder / "shard-001.h5"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"shard-001.h5: damaged \(.*truncated.*\); delete it"):
        Trajectories(folder / "manifest.json")
    (line,) = verify(folder / "manifest.json")
    assert "shard-001.h5: damaged" in line
    with pytest.raises(UserError, match="shard-001.h5: damaged"):
        manifest.build(folder / "manifest.json", manifest_spec(4), sorted(folder.glob("*.h5")))


def test_a_missing_shard_is_named(folder):
    (folder / "shard-000.h5").unlink()
    with pytest.raises(UserError, match=r"shard-000.h5: no such shard"):
        Trajectories(folder / "manifest.json")


def test_another_study_s_shard_is_named_with_what_differs(folder, make):
    make(folder / "shard-001.h5", first=2, lr=0.01)
    message = r"shard-001.h5: made with training.lr 0.01, this study has 0.05; delete it"
    with pytest.raises(UserError, match=message):
        Trajectories(folder / "manifest.json")
    with pytest.raises(UserError, match=message):
        manifest.build(folder / "manifest.json", manifest_spec(4), sorted(folder.glob("*.h5")))
    (line,) = verify(folder / "manifest.json")
    assert "made with training.lr 0.01" in line


def test_a_shard_of_other_data_is_named(folder, make):
    path = folder / "shard-001.h5"
    with h5py.File(path, "r+") as file:
        header = json.loads(file.attrs["header"])
        file.attrs["header"] = json.dumps(header | {"data": "0123456789abcdef"})
    with pytest.raises(UserError, match=r"shard-001.h5: its data \(0123456789abcdef\) is not that of shard-000.h5"):
        manifest.build(folder / "manifest.json", manifest_spec(4), sorted(folder.glob("*.h5")))
    assert "the header or the list of digests has changed" in verify(path)[0]


def test_equal_snapshots_are_found_even_where_digests_agree(folder):
    """A store written by code that keeps one tensor and stores it again and again, as MTT's does on a CPU."""
    path, header = folder / "shard-001.h5", Shard(folder / "shard-001.h5").header
    experts = Shard(path).experts
    columns = np.array(experts[1].columns)
    columns[2] = columns[1]
    aliased = store.Expert(columns, experts[1].scale, experts[1].accuracy, experts[1].loss, 1.0)
    store.write(path, header, [experts[0], aliased], 2, 4, 3)
    assert verify(path)[0].startswith(f"{path}: expert 3: snapshots 1 and 2 are equal; delete it")


def test_a_manifest_lists_what_is_there(stored):
    listed = manifest.load(stored / "manifest.json")
    assert listed["spec"] == manifest_spec(4)
    assert (listed["parameters"], listed["snapshots"]) == (sum(np.prod(shape) for _, shape in listed["layout"]), 4)
    assert [shard["first"] for shard in listed["shards"]] == [0, 2]
    assert [expert["expert"] for expert in listed["experts"]] == [0, 1, 2, 3]
    assert listed["experts"][2]["digest"] == Shard(stored / "shard-001.h5").experts[0].digest()
    assert 0 < listed["experts"][2]["accuracy"] <= 100
    assert listed["shards"][0]["bytes"] == (stored / "shard-000.h5").stat().st_size
    assert listed["shards"][0]["engine"]["precision"] == "float32"


@pytest.mark.parametrize(
    "total, names, message",
    [
        (4, ["shard-000.h5"], "the shards hold 2 experts, the study has 4"),
        (2, ["shard-001.h5"], "expert 0 is in no shard or in two: shard-001.h5 begins with 2"),
        (4, ["shard-000.h5", "shard-000.h5"], "expert 2 is in no shard or in two"),
    ],
)
def test_incomplete_shards_are_refused(stored, tmp_path, total, names, message):
    with pytest.raises(UserError, match=message):
        manifest.build(tmp_path / "manifest.json", manifest_spec(total), [stored / name for name in names])


def test_what_is_no_manifest_is_refused(tmp_path):
    path = tmp_path / "manifest.json"
    with pytest.raises(UserError, match="no such manifest"):
        manifest.load(path)
    for text in ("{", "[]", '{"format": "other"}'):
        path.write_text(text)
        with pytest.raises(UserError, match="not a manifest"):
            manifest.load(path)


def test_growing_a_study_leaves_its_shards_alone(stored):
    """Shards know their experts, not how many the study has."""
    assert shard_spec(first=0).keys() & {"total", "shard"} == set()
    assert "total" not in Shard(stored / "shard-000.h5").header["spec"]

"""What is on the disk: sizes, digests, and that every kind of damage is named."""

import shutil

import h5py
import numpy as np
import pytest
from trajectories.expert_specs import manifest_spec, shard_spec

from esp_core import networks
from esp_core.networks.flat import FlatNetwork
from esp_core.runtime.errors import UserError
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


def header_of(shard):
    """What a shard was written with."""
    return {key: shard.header[key] for key in ("spec", "code", "data", "layout", "engine")}


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


def test_a_flipped_byte_names_shard_and_expert(folder):
    path = folder / "shard-001.h5"
    with h5py.File(path) as file:
        row = file["columns"].nbytes // 2
    flip(path, place_of(path, "columns", row + row // 2))  # in the second row, which is expert 3
    expected = [f"{path}: expert 3: its digest differs: bytes have changed since it was written; delete it and the manifest.json"]
    for target in (path, folder / "manifest.json"):
        found = verify(target)
        assert [line.partition(" beside it")[0] for line in found] == expected


@pytest.mark.parametrize("name", ["scales", "accuracy", "loss", "seconds", "digest"])
def test_a_flipped_byte_beside_the_columns_is_seen_before_anything_is_read(folder, name):
    path = folder / "shard-001.h5"
    flip(path, place_of(path, name))
    message = f"{path}: bytes beside its experts have changed since it was written; delete it and the manifest.json"
    assert verify(path)[0].startswith(message)
    with pytest.raises(UserError, match="bytes beside its experts have changed"):
        Trajectories(folder / "manifest.json")


def test_every_byte_of_a_shard_counts(folder):
    """Wherever a byte is flipped, in HDF5's own structures or in padding, the check of the shard alone sees it, and ends."""
    path = folder / "shard-000.h5"
    whole = path.read_bytes()
    for place in [*range(0, 130, 3), *np.random.default_rng(0).integers(0, len(whole), 150).tolist()]:
        flip(path, place)
        (line,) = verify(path)
        assert line.startswith(f"{path}: ")
        path.write_bytes(whole)
    assert verify(path) == []


def test_a_truncated_shard_is_named_by_all_who_open_it(folder):
    path = folder / "shard-001.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"shard-001.h5: truncated: its experts end at byte \d+, the file at \d+; delete it"):
        Trajectories(folder / "manifest.json")
    (line,) = verify(folder / "manifest.json")
    assert "shard-001.h5: truncated" in line
    with pytest.raises(UserError, match="shard-001.h5: truncated"):
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
    shard = Shard(path)
    store.write(path, header_of(shard) | {"data": "0123456789abcdef"}, shard.experts, 2, 4, 3)
    with pytest.raises(UserError, match=r"shard-001.h5: its data \(0123456789abcdef\) is not that of shard-000.h5"):
        manifest.build(folder / "manifest.json", manifest_spec(4), sorted(folder.glob("*.h5")))
    with pytest.raises(UserError, match=r"shard-001.h5: not the shard that the manifest lists"):
        Trajectories(folder / "manifest.json")
    (line,) = verify(folder / "manifest.json")
    assert "its experts are not those that the manifest lists" in line


def test_equal_snapshots_are_found_even_where_digests_agree(folder):
    """A store written by code that keeps one tensor and stores it again and again, as MTT's does on a CPU."""
    path = folder / "shard-001.h5"
    shard = Shard(path)
    experts = shard.experts
    columns = np.array(experts[1].columns)
    columns[2] = columns[1]
    aliased = store.Expert(columns, experts[1].scale, experts[1].accuracy, experts[1].loss, 1.0)
    store.write(path, header_of(shard), [experts[0], aliased], 2, 4, 3)
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

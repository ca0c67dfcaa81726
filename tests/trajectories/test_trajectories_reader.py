import h5py
import numpy as np
import pytest
import torch
from trajectories.expert_specs import SPEC, content

from esp_core import datasets
from esp_core.runtime.errors import UserError
from esp_core.trajectories import Trajectories
from esp_core.trajectories.manifest import Shard


@pytest.fixture
def experts(stored):
    return Trajectories(stored / "manifest.json")


def test_shape_and_count(experts):
    assert (len(experts), experts.snapshots) == (4, 4)
    assert experts.layout[0] == ("blocks.0.weight", (4, 1, 3, 3))
    segment = experts.segment(2, 1, 2)
    assert segment.shape == (3, experts.parameters)
    assert segment.dtype == torch.float32


def test_segments_come_from_the_expert_and_the_place_asked_for(experts, stored):
    for number in range(4):
        shard, row = content(stored / f"shard-00{number // 2}.h5"), number % 2
        expected = shard["scale"][row] * shard["steps"][row].astype("float32").cumsum(0)
        for start in range(4):
            assert np.array_equal(experts.segment(number, start, 3 - start), expected[start:])
        assert np.array_equal(experts.snapshot(number, 2), expected[2])


def test_an_expert_is_checked_once_and_only_what_a_segment_needs_is_read_again(experts, monkeypatch):
    read = []
    original = Trajectories._steps
    monkeypatch.setattr(Trajectories, "_steps", lambda self, expert, count: read.append((expert, count)) or original(self, expert, count))
    experts.segment(1, 1, 1)
    experts.segment(1, 0, 1)
    assert read == [(1, 4), (1, 3), (1, 2)]


def test_a_job_reads_without_the_hdf5_library(stored, monkeypatch):
    monkeypatch.setattr(h5py, "File", lambda *_: pytest.fail("HDF5 was used"))
    Trajectories(stored / "manifest.json").segment(3, 0, 3)


@pytest.mark.parametrize("request_", [(4, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 2, 2), (0, 0, 4)])
def test_what_is_not_stored_cannot_be_read(experts, request_):
    with pytest.raises(IndexError, match="the store has 4 experts of 4 snapshots"):
        experts.segment(*request_)


JOB = {"dataset": "digits", "network": SPEC["network"], "experts": {"total": 4}}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dataset": "svhn"}, "experts of dataset digits, this job has svhn"),
        ({"network": {**SPEC["network"], "width": 8}}, "experts of network.width 4, this job has 8"),
        ({"network": {**SPEC["network"], "norm": "batch"}}, "experts of network.norm None, this job has batch"),
        ({"experts": {"total": 5}}, "experts of experts.total 4, this job has 5"),
    ],
)
def test_experts_of_another_job_are_refused(experts, change, told):
    experts.check(JOB, experts.manifest["data"])
    experts.check({**JOB, "experts": None}, experts.manifest["data"])
    with pytest.raises(UserError, match=f"manifest.json: {told}; give the experts that it asks for"):
        experts.check({**JOB, **change}, experts.manifest["data"])


def test_experts_trained_on_other_data_are_refused(experts, digits):
    data = datasets.load(digits)
    experts.check(JOB, data.digest)
    with pytest.raises(UserError, match=f"manifest.json: its experts were trained on other data \\({data.digest}\\) than these"):
        experts.check(JOB, data.holdout(0.25, seed=0).digest)  # the same file, but part of the images is kept for a test


def test_experts_never_see_the_images_that_are_kept_for_a_choice(make, digits, tmp_path):
    shard = Shard(make(tmp_path / "shard-000.h5", validation=0.25))
    assert shard.facts["data"] == datasets.load(digits, validation=0.25).digest != datasets.load(digits).digest

from itertools import islice

import pytest
import torch
from trajectories.expert_specs import SPEC

from esp_core import datasets
from esp_core.runtime.errors import UserError
from esp_core.trajectories import Trajectories, codec
from esp_core.trajectories.shard import Shard


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
    """Against the columns decoded one by one with NumPy."""
    for number in range(4):
        expert = Shard(stored / f"shard-00{number // 2}.h5").experts[number % 2]
        sizes = [
            torch.Size(shape[1:] if len(shape) > 1 else shape).numel()
            for _, shape in experts.layout
            for _ in range(shape[0] if len(shape) > 1 else 1)
        ]
        offset, first, step = (torch.from_numpy(r).double().repeat_interleave(torch.tensor(sizes)) for r in expert.scale.rows())
        begin = offset + first * torch.from_numpy(expert.columns[0].astype(float))
        way = [torch.zeros(len(begin), dtype=torch.float64)]
        for column, last in zip(expert.columns[1:], [0 * expert.columns[0], *expert.columns[1:-1]], strict=True):
            way.append(way[-1] + torch.from_numpy((column.astype(int) - last + 2**15) % 2**16 - 2**15))
        expected = torch.stack([begin + step * w for w in way])
        assert torch.allclose(experts.segment(number, 0, 3).double(), expected, atol=1e-7)
        assert torch.equal(experts.snapshot(number, 2), experts.segment(number, 0, 3)[2])


def test_held_in_memory_it_reads_the_same(experts, stored):
    held = Trajectories(stored / "manifest.json", hold=True)
    for request in islice(experts.random(2, 1, torch.Generator().manual_seed(0)), 8):
        assert torch.equal(held.segment(*request), experts.segment(*request))


def test_held_in_memory_no_file_is_read(stored, monkeypatch):
    held = Trajectories(stored / "manifest.json", hold=True)
    monkeypatch.setattr(Shard, "read", lambda *_: pytest.fail("a file was read"))
    assert held.segment(3, 0, 3).shape[0] == 4


def test_prefetched_segments_come_in_order_and_reading_stays_ahead(experts):
    requests = [(i % 4, i % 2, 2) for i in range(7)]
    taken = []

    def asked():
        for request in requests:
            taken.append(request)
            yield request

    stream = experts.segments(asked(), ahead=2)
    first = next(stream)
    assert len(taken) == 3  # the one in use and two more
    got = [first, *stream]
    assert all(torch.equal(a, experts.segment(*b)) for a, b in zip(got, requests, strict=True))


def test_random_requests_cover_what_was_asked_for(experts):
    drawn = list(islice(experts.random(2, 1, torch.Generator().manual_seed(0)), 200))
    assert {expert for expert, _, _ in drawn} == {0, 1, 2, 3}
    assert {start for _, start, _ in drawn} == {0, 1}
    assert drawn == list(islice(experts.random(2, 1, torch.Generator().manual_seed(0)), 200))


@pytest.mark.parametrize("request_", [(4, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 2, 2), (0, 0, 4)])
def test_what_is_not_stored_cannot_be_read(experts, request_):
    with pytest.raises(IndexError, match="the store has 4 experts of 4 snapshots"):
        experts.segment(*request_)


def test_only_the_needed_columns_are_read(experts, monkeypatch):
    read = []
    original = Shard.read
    monkeypatch.setattr(Shard, "read", lambda self, row, columns: read.append(list(columns)) or original(self, row, columns))
    experts.segment(1, 2, 1)
    assert read == [codec.needed(2, 1)] == [[0, 2, 3]]


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
    assert shard.header["data"] == datasets.load(digits, validation=0.25).digest != datasets.load(digits).digest

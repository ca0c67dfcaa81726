import math

import numpy as np
import pytest
import torch

from esp_core.trajectories import codec, subspace

SIZES = np.array([300, 20, 20, 2000])


def walk(snapshots, seed, pace=0.02):
    """Weights of four tensors of different scale, the third one 1 at first as a norm's, on a noisy way with a drift."""
    random = np.random.default_rng(seed)
    scale = np.repeat([0.2, 0.0, 1.0, 0.03], SIZES)
    start = scale * random.uniform(-1, 1, sum(SIZES))
    start[320:340] = 1.0
    reach = pace * np.repeat([0.2, 0.02, 0.05, 0.03], SIZES)
    steps = reach * (0.7 * random.normal(size=sum(SIZES)) + random.normal(size=(snapshots - 1, sum(SIZES))))
    return np.concatenate([start[None], start + steps.cumsum(0)]).astype(np.float32)


def stored(columns, scale, start, length):
    return codec.decode(torch.from_numpy(columns[codec.needed(start, length)]), length + 1, scale, SIZES)


@pytest.mark.parametrize("snapshots", [2, 5, 51])
def test_every_segment_is_as_close_as_stated(snapshots):
    exact = walk(snapshots, seed=0)
    columns, scale = codec.encode(exact, SIZES)
    step, first = np.repeat(scale.steps, SIZES), np.repeat(scale.firsts, SIZES)
    rounding = np.finfo(np.float32).eps * np.abs(exact).max()  # of the float32 sums that give a snapshot
    common = stored(columns, scale, 0, 0)[0].numpy() - exact[0]
    assert (np.abs(common) <= first / 2 + rounding).all()
    for length in {0, 1, min(5, snapshots - 1), snapshots - 1}:
        for start in range(snapshots - length):
            error = stored(columns, scale, start, length).numpy() - exact[start : start + length + 1]
            assert (np.abs(error - common) <= step / 2 + 2 * rounding).all()


def test_a_snapshot_is_the_same_through_every_segment():
    columns, scale = codec.encode(walk(20, seed=1), SIZES)
    whole = stored(columns, scale, 0, 19)
    for start in range(15):
        assert torch.equal(stored(columns, scale, start, 4), whole[start : start + 5])


def test_a_way_longer_than_16_bits_comes_back():
    exact = walk(60, seed=2, pace=0.5)
    columns, scale = codec.encode(exact, SIZES)
    way = np.abs(exact[-1] - exact[0]) / np.repeat(scale.steps, SIZES)
    assert way.max() > 2**16
    error = np.abs(stored(columns, scale, 57, 2).numpy() - exact[57:60])
    assert error.max() < np.abs(exact).max() * 1e-4


def test_largest_principal_angle_is_below_a_tenth_of_a_degree():
    angles = []
    for seed in range(10):
        exact = walk(51, seed)
        columns, scale = codec.encode(exact, SIZES)
        for start in np.random.default_rng(seed).integers(0, 46, 20).tolist():
            bases = (subspace.basis(s) for s in (torch.from_numpy(exact[start : start + 6]), stored(columns, scale, start, 5)))
            angles.append(math.degrees(subspace.principal_angles(*bases).max()))
    assert len(angles) == 200
    assert max(angles) <= 0.1


def test_reading_takes_the_segment_and_one_column_in_four_before_it():
    assert codec.needed(0, 5) == [0, 1, 2, 3, 4, 5]
    assert codec.needed(45, 5) == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 45, 46, 47, 48, 49, 50]


def test_equal_neighbours_are_found_and_tensors_that_never_move_are_exact():
    exact = walk(6, seed=3)
    assert codec.standing(codec.encode(exact, SIZES)[0]) is None
    still = exact.copy()
    still[4] = still[3]
    assert codec.standing(codec.encode(still, SIZES)[0]) == 3
    still[:] = exact[0]
    columns, scale = codec.encode(still, SIZES)
    assert codec.standing(columns) == 0
    assert torch.equal(stored(columns, scale, 5, 0)[0, 320:340], torch.ones(20))

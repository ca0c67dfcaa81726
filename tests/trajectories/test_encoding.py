import numpy as np
import pytest
import torch
from trajectories.expert_specs import largest_angle

from esp_core.trajectories import store
from esp_core.trajectories.reader import decode

SIZES = [300, 20, 20, 2000]


def walk(snapshots, seed, pace=0.02):
    """Weights of four tensors of different scale, the third one 1 at first as a norm's, on a noisy way with a drift."""
    random = np.random.default_rng(seed)
    start = np.repeat([0.2, 0.0, 1.0, 0.03], SIZES) * random.uniform(-1, 1, sum(SIZES))
    start[320:340] = 1.0
    reach = pace * np.repeat([0.2, 0.02, 0.05, 0.03], SIZES)
    steps = reach * (0.7 * random.normal(size=sum(SIZES)) + random.normal(size=(snapshots - 1, sum(SIZES))))
    return np.concatenate([start[None], start + steps.cumsum(0)]).astype(np.float32)


def stored(snapshots, start=0):
    steps, scale = store.encode(snapshots)
    return decode(torch.from_numpy(steps), start, scale)


@pytest.mark.parametrize(("pace", "scale"), [(0.02, 1.0), (1e-4, 1.0), (0.02, 1e6), (0.02, 1e-6)])
def test_the_largest_principal_angle_is_below_a_fifth_of_a_degree(pace, scale):
    """Also of steps and weights so small or large that plain float16 would lose them."""
    exact = scale * walk(51, 0, pace)
    for start in range(0, 46, 5):
        assert largest_angle(exact[start : start + 6], stored(exact[: start + 6], start)) <= 0.2


def test_errors_do_not_add_up():
    """All snapshots are off by the rounding of the first; beside that, each by that of its own step alone."""
    exact = walk(2000, 1)
    steps, scale = store.encode(exact)
    error = decode(torch.from_numpy(steps), 0, scale).numpy() - exact.astype(np.float64)
    own = np.abs(error - error[0])[1:]
    assert (np.abs(error[0]) <= np.abs(exact[0]) * 2.0**-11).all()
    assert (own <= scale * np.spacing(np.abs(steps[1:])).astype(np.float64) / 2 + 2 * np.spacing(np.abs(exact[1:]))).all()


def test_a_snapshot_is_the_same_through_every_segment_and_to_numpy():
    steps, scale = store.encode(walk(20, 1))
    whole = np.float32(scale) * steps.astype("float32").cumsum(0)
    for start in range(15):
        assert np.array_equal(decode(torch.from_numpy(steps[: start + 5]), start, scale), whole[start : start + 5])


def test_equal_neighbours_are_found_and_what_never_moves_is_exact():
    exact = walk(6, 3)
    assert store.first_repeat(exact) is None
    exact[4] = exact[3]
    assert store.first_repeat(exact) == 3
    assert torch.equal(stored(np.repeat(exact[:1], 3, 0))[2, 320:340], torch.ones(20))
    assert not stored(np.zeros((3, 5), np.float32)).any()

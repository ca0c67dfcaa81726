"""A rate that is too high is said, in the log and in the set, also where a clamp hides it."""

from dataclasses import replace

import pytest
import torch
from small import SGD, SIZE, Experts, dataset, spec, whitened

from esp_core import datasets, load_condensed, parametrisations
from esp_core.distillation.saturation import saturation
from esp_core.parametrisations import Task
from esp_core.stages import distill
from esp_core.trajectories import reader

DATA = dataset()
TASK = Task(3, 2, 1, SIZE, DATA.normalisation)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda *_: dataset())
    monkeypatch.setattr(reader, "Trajectories", lambda *_: Experts())


def made(values, normalisation=DATA.normalisation, **settings):
    """Six images of 64 pixels, which hold `values` in turn, in [0, 1]."""
    synthetic = parametrisations.build(replace(TASK, normalisation=normalisation), kind="pixels", **settings)
    pixels = torch.tensor(values).repeat(6 * SIZE**2 // len(values)).view(6, 1, SIZE, SIZE)
    synthetic.tensors["pixels"] = normalisation.normalise(pixels)
    return synthetic


@pytest.mark.parametrize(
    ("values", "clamp", "share"),
    [
        ([0.5, 0.1], True, 0.0),
        ([0.0, 0.5], True, 0.5),
        ([0.0, 1.0], True, 1.0),
        ([0.0, 1.0], False, 0.0),
        ([-1.0, 2.0, 0.5, 0.5], False, 0.0),  # a set that is not clamped may leave what can be shown
        ([-20.0, 0.5, 0.5, 0.5], False, 0.25),
        ([1e30, -1e30], False, 1.0),
        ([float("nan"), float("inf"), 0.5, 0.5], False, 0.5),
    ],
)
def test_the_share_of_pixels_that_hold_nothing(values, clamp, share):
    real = float(((DATA.train.images == 0) | (DATA.train.images == 255)).float().mean())
    assert 0 < real < 0.02
    assert saturation(made(values, clamp=int(clamp)), DATA) == pytest.approx(max(0.0, share - real) if clamp else share, abs=1e-6)


@pytest.mark.parametrize(("values", "clamp", "share"), [([0.5, 0.1], 1, 0.0), ([0.0, 0.5], 1, 0.5), ([-20.0, 0.5, 0.5, 0.5], 0, 0.25)])
def test_whitened_pixels_are_counted_as_they_are_shown(values, clamp, share):
    assert saturation(made(values, whitened(DATA).normalisation, clamp=clamp), DATA) == pytest.approx(share, abs=0.02)


def test_what_real_images_have_is_not_saturation():
    black = dataset()
    black.train.images[:, :, ::2] = 0  # half of every image
    assert saturation(made([0.0, 0.5], clamp=1), black) == 0.0
    assert saturation(made([0.0, 1.0], clamp=1), black) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("parametrisation", [{"kind": "pixels", "init": "random", "clamp": 1}, {"kind": "formation", "clamp": 1}])
@pytest.mark.parametrize(("rate", "told"), [(1e20, True), (0.01, False)])
def test_a_rate_that_only_the_clamp_holds_is_told(parametrisation, rate, told, tmp_path, capsys):
    job = spec("dm", parametrisation=parametrisation, optimiser={**SGD, "lr_pixels": rate}, iterations=3)
    distill.run(job, tmp_path / "data.h5", None, tmp_path / "set.safetensors", device="cpu")
    line = "% of the pixels are at an end of their range; lower optimiser.lr_pixels"
    assert (line in capsys.readouterr().out) == told
    assert (load_condensed(tmp_path / "set.safetensors").metadata["saturated"] > 0.5) == told


@pytest.mark.parametrize(("rate", "told"), [(1e9, True), (1e-9, False)])
def test_a_step_size_at_its_floor_is_told(rate, told, tmp_path, capsys):
    """Steps of 5 go too far, so that their size is learned to fall, at this rate at once to the floor."""
    own = {"parametrisation": {"kind": "pixels", "init": "random"}, "teacher": {"kind": "experts", "length": 2, "steps": 1, "start_max": 2}}
    own |= {"objectives": {"trajectory": {"steps": 2, "step_size": 5.0}}, "optimiser": {**SGD, "lr_pixels": 1e-9, "lr_step_size": rate}}
    distill.run(spec("dm", iterations=1, **own), tmp_path / "data.h5", tmp_path, tmp_path / "set.safetensors", device="cpu")
    assert ("small ipc 2 dm: step_size ends at the lowest value" in capsys.readouterr().out) == told
    assert load_condensed(tmp_path / "set.safetensors").metadata["at_floor"] == ["step_size"] * told

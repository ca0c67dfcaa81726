"""Budgets against the numbers stored, decoding against a decoder-by-decoder reference."""

import pytest
import torch
import torch.nn.functional as F

from esp_core import parametrisations
from esp_core.datasets.normalisation import Normalisation
from esp_core.parametrisations import Task
from esp_core.runtime.errors import UserError
from esp_core.study.budget import codes_per_class, decoder_numbers

CELLS = [
    *[(10, ipc, 3, 32) for ipc in (1, 10, 50)],
    *[(100, ipc, 3, 32) for ipc in (1, 10)],
    *[(200, ipc, 3, 64) for ipc in (1, 10)],
    *[(10, ipc, 1, 16) for ipc in (1, 10)],
]


def task(classes, ipc, channels, size):
    return Task(classes, ipc, channels, size, Normalisation(torch.full((channels,), 0.45), torch.full((channels,), 0.25)))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", ["pixels", "latent", "formation"])
def test_stored_numbers_fill_and_never_exceed_the_budget(cell, kind):
    settings = {"upsamplings": 3 if cell[3] == 64 else 2, "decoders": 4} if kind == "latent" else {}
    made = parametrisations.build(task(*cell), kind, **settings)
    classes, ipc, channels, size = cell
    assert made.task.budget == classes * ipc * channels * size * size
    assert made.used == sum(t.numel() for t in made.tensors.values()) <= made.task.budget
    unit = made.used - sum(t.numel() for name, t in made.tensors.items() if name not in ("codes", "pixels"))
    assert made.used + unit // (len(made.unit_labels) // classes) > made.task.budget, "one more unit a class would fit"
    assert torch.bincount(made.unit_labels).tolist() == [made.units // classes] * classes


def test_decoder_numbers_counts_a_torch_decoder():
    decoder = torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3), torch.nn.GroupNorm(1, 8), torch.nn.Conv2d(8, 8, 3), torch.nn.GroupNorm(1, 8), torch.nn.Conv2d(8, 3, 3)
    )
    assert decoder_numbers(3, 4, 8, 3) == sum(p.numel() for p in decoder.parameters())
    assert 8 * decoder_numbers(3, 4, 8, 2) == 4_248  # the worked example of 8 decoders for CIFAR-10 IPC 1
    assert codes_per_class(task(10, 1, 3, 32), 8, 4, 8, 2) == 10


def test_a_budget_that_cannot_be_met_names_the_smallest():
    with pytest.raises(UserError, match="the smallest IPC for this design is 5"):
        codes_per_class(task(10, 1, 1, 16), 8, 16, 8, 2)
    shared, per_code = 8 * decoder_numbers(1, 16, 8, 2), 10 * 16 * 16
    assert 4 * 2560 < shared + per_code <= 5 * 2560
    assert codes_per_class(task(10, 5, 1, 16), 8, 16, 8, 2) == 1


@pytest.mark.parametrize("upsamplings", [1, 2, 3])
def test_every_code_goes_through_every_decoder(upsamplings):
    made = parametrisations.build(task(2, 8, 3, 16), "latent", decoders=3, code_channels=2, width=4, upsamplings=upsamplings)
    made.initialise(torch.Generator().manual_seed(0), None)
    units = torch.tensor([0, 3])
    images = made.decode(units)
    assert made.labels(units).tolist() == made.unit_labels[units].repeat_interleave(3).tolist()
    for u, unit in enumerate(units):
        for d in range(3):
            x = made.tensors["codes"][unit][None]
            for layer in range(upsamplings):
                part = {n: made.tensors[f"decoder.{layer}.{n}"].chunk(3)[d] for n in ("weight", "bias")}
                x = F.conv2d(x.repeat_interleave(2, 2).repeat_interleave(2, 3), part["weight"], part["bias"], padding=1)
                if layer < upsamplings - 1:
                    x = F.relu(F.layer_norm(x, x.shape[1:]))
            expected = (1 / (1 + (-x[0]).exp()) - 0.45) / 0.25
            torch.testing.assert_close(images[u * 3 + d], expected, rtol=1e-4, atol=1e-5)


def test_pixels_come_back_to_what_can_be_shown_every_so_many_steps():
    made = parametrisations.build(task(2, 1, 1, 8), "pixels", clamp=100)
    made.initialise(torch.Generator().manual_seed(0), None)
    made.tensors["pixels"][0, 0, 0, 0], made.tensors["pixels"][0, 0, 0, 1] = 99.0, -99.0
    made.restrict(199)
    assert made.tensors["pixels"].abs().max() == 99
    made.restrict(200)
    shown = made.task.normalisation.denormalise(made.decode(torch.arange(2)))
    assert shown.min() >= -1e-6 and shown.max() <= 1 + 1e-6
    assert shown[0, 0, 0, 0] == pytest.approx(1) and shown[0, 0, 0, 1] == pytest.approx(0, abs=1e-6)


def test_pixels_are_not_clamped_by_default():
    made = parametrisations.build(task(2, 1, 1, 8), "pixels")
    made.initialise(torch.Generator().manual_seed(0), None)
    made.restrict(100)
    assert torch.equal(made.tensors["pixels"], torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))


class Real(parametrisations.RealImages):
    """Image k of class c is filled with 10 c + k."""

    def pick(self, label, count, how):
        return torch.stack([torch.full((1, 8, 8), 10.0 * label + k) for k in range(count)])


def test_formation_tiles_are_enlarged_parts_of_the_stored_image():
    made = parametrisations.build(task(2, 2, 1, 8), "formation", factor=2, init="random", clamp=0)
    made.initialise(torch.Generator().manual_seed(0), Real())
    assert made.images == 16 and made.used == made.task.budget
    decoded = made.decode(torch.arange(4))
    assert decoded.flatten(1).std(1).max() == 0
    assert decoded[:, 0, 0, 0].tolist() == [*range(8), *range(10, 18)]
    assert made.labels(torch.arange(4)).tolist() == [0] * 8 + [1] * 8
    pixels = made.tensors["pixels"]
    pixels.copy_(torch.randn(pixels.shape, generator=torch.Generator().manual_seed(1)))
    expected = F.interpolate(pixels[1:2, :, 4:, :4], scale_factor=2, mode="bilinear")
    torch.testing.assert_close(made.decode(torch.tensor([1]))[2:3], expected)

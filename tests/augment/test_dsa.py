"""Each operation against pixel arithmetic or torch's own grid sampling, and draws that are shared, replayed and chained."""

import math

import pytest
import torch
import torch.nn.functional as F
from kornia.geometry.transform import homography_warp

from esp_core.augment import dsa
from esp_core.runtime.errors import UserError

SIDE = 8


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=6, channels=3):
    return torch.randn(n, channels, SIDE, SIDE, generator=generator(1), dtype=torch.float64)


def draws(operation, n=6, seed=0):
    made = dsa.draw(operation, n, generator(seed))
    return made, made.uniforms.double()


def sampled(x, matrices):
    """Torch's affine sampling, with zeros outside."""
    grid = F.affine_grid(matrices, list(x.shape), align_corners=True)
    return F.grid_sample(x, grid, padding_mode="zeros", align_corners=True)


def test_flip_mirrors_half_of_the_images():
    draw, u = draws("flip", 40)
    x = images(40)
    out = draw(x)
    mirrored = u[:, 0] < 0.5
    assert 8 < mirrored.sum() < 32
    assert torch.equal(out[mirrored], x[mirrored].flip(3)) and torch.equal(out[~mirrored], x[~mirrored])


def test_colour_is_brightness_then_saturation_then_contrast():
    draw, u = draws("color")
    x = images()
    for image, numbers, out in zip(x, u, draw(x), strict=True):
        bright = image + (numbers[0] - 0.5)
        grey = bright.mean(0)
        saturated = (bright - grey) * 2 * numbers[1] + grey
        expected = (saturated - saturated.mean()) * (numbers[2] + 0.5) + saturated.mean()
        torch.testing.assert_close(out, expected)


def test_crop_shifts_by_whole_pixels_and_fills_with_zeros():
    draw, u = draws("crop", 30)
    x = images(30)
    shifts = set()
    for image, numbers, out in zip(x, u, draw(x), strict=True):
        right, down = (math.floor(float(v) * 3) - 1 for v in numbers[:2])  # an eighth of 8 pixels: one either way
        padded = F.pad(image, (1, 1, 1, 1))
        torch.testing.assert_close(out, padded[:, 1 + down : 1 + down + SIDE, 1 + right : 1 + right + SIDE], atol=1e-6, rtol=0)
        shifts.add((right, down))
    assert len(shifts) > 5


def test_cutout_clears_a_square_of_half_the_side_that_may_leave_the_image():
    draw, _ = draws("cutout", 200)
    x = torch.ones(200, 1, SIDE, SIDE)
    holes = (draw(x) == 0).squeeze(1)
    heights, widths = holes.any(2).sum(1), holes.any(1).sum(1)
    assert torch.equal(holes.sum((1, 2)), heights * widths)  # a full rectangle
    assert heights.max() == widths.max() == SIDE // 2 and heights.min() < SIDE // 2


def matrices(operation, u):
    """(n, 3, 3), where each pixel of the augmented image is sampled, positions in [-1, 1]."""
    found = torch.eye(3, dtype=torch.float64).repeat(len(u), 1, 1)
    if operation == "crop":
        found[:, :2, 2] = ((u[:, :2] * 3).floor() - 1) * 2 / (SIDE - 1)
    elif operation == "scale":
        found[:, 0, 0], found[:, 1, 1] = (u[:, i] * (1.2 - 1 / 1.2) + 1 / 1.2 for i in (0, 1))
    else:
        angle = (u[:, 0] - 0.5) * 2 * math.radians(15)
        found[:, 0, 0] = found[:, 1, 1] = angle.cos()
        found[:, 0, 1], found[:, 1, 0] = -angle.sin(), angle.sin()
    return found


@pytest.mark.parametrize("operation", ["scale", "rotate"])
def test_scale_and_rotate_are_torchs_affine_sampling(operation):
    draw, u = draws(operation)
    torch.testing.assert_close(draw(images()), sampled(images(), matrices(operation, u)[:, :2]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("operation", ["crop", "scale", "rotate"])
def test_a_warp_and_its_gradient_are_kornias(operation):
    _, u = draws(operation, 20)
    x, back = images(20).requires_grad_(), torch.randn(20, 3, SIDE, SIDE, generator=generator(5), dtype=torch.float64)
    ours = dsa.Placement(((dsa.Share(operation, None, u),),))(x)
    theirs = homography_warp(x, matrices(operation, u), (SIDE, SIDE), padding_mode="zeros", align_corners=True)
    for a, b in ((ours, theirs), (torch.autograd.grad(y, x, back)[0] for y in (ours, theirs))):
        assert (a - b).norm() <= 1e-12 * b.norm() > 0


@pytest.mark.parametrize("side", [5, 8, 9])
def test_the_gradient_of_a_rotation_that_a_gpu_takes_is_torchs(side):
    angle = torch.cat([torch.tensor([-15.0, 15.0, 0.0]), 30 * torch.rand(30, generator=generator(6)) - 15]).double() * math.pi / 180
    x, back = (torch.randn(33, 2, side, side, generator=generator(seed), dtype=torch.float64) for seed in (7, 8))
    turn = torch.stack([angle.cos(), -angle.sin(), 0 * angle, angle.sin(), angle.cos(), 0 * angle], 1).view(-1, 2, 3)
    ours, theirs = dsa.rotation(x.requires_grad_(), angle), sampled(x, turn)
    for a, b in ((ours, theirs), (torch.autograd.grad(y, x, back)[0] for y in (ours, theirs))):
        assert (a - b).norm() <= 1e-12 * b.norm() > 0
    few = x.detach()[:3, :1].requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: dsa.rotation(x, angle[:3]), (few,))


def test_a_draw_replays_and_images_of_a_class_share_it():
    draw = dsa.draw("color_crop_cutout_flip_scale_rotate", 3, generator(2))
    one = images(1).expand(6, -1, -1, -1)
    group = torch.tensor([0, 1, 2, 2, 1, 0])
    out = draw(one, group)
    assert torch.equal(out, draw(one, group))
    assert torch.equal(out[0], out[5]) and torch.equal(out[1], out[4]) and not torch.equal(out[0], out[1])


def test_one_operation_for_a_batch_and_numbers_for_each_image():
    draw = dsa.draw("crop_rotate_scale", 20, generator(3), same_operation=True)
    assert len(set(draw.operations)) == 1
    assert len({tuple(row) for row in draw.uniforms.tolist()}) == 20


def test_a_chain_applies_its_parts_in_order_under_draws_of_their_own():
    chain = dsa.draw("color+crop_scale", 6, generator(4))
    same = generator(4)
    first, second = dsa.draw("color", 6, same), dsa.draw("crop_scale", 6, same)
    assert torch.equal(chain(images()), second(first(images())))
    assert not torch.equal(chain(images()), first(second(images())))


def test_gradients_pass_through_every_operation():
    for operation in dsa.OPERATIONS:
        x = images(2).requires_grad_()
        draw, _ = draws(operation, 2)
        assert torch.autograd.gradcheck(lambda x, draw=draw: draw(x[:, :, :4, :4]), (x,), atol=1e-4)


def test_none_changes_nothing_and_an_unknown_operation_is_named():
    assert torch.equal(dsa.draw("none", 6, generator())(images()), images())
    with pytest.raises(UserError, match="augment: unknown operation blur"):
        dsa.draw("color_blur", 2, generator())
    with pytest.raises(ValueError, match="3 images for 2 draws"):
        dsa.draw("color", 2, generator())(images(3))

"""How pictures in a folder are decoded: size, mode, orientation, transparency, frames; and pictures that do not fit."""

import numpy as np
import pytest
import torch
from dataset_files import everything, left_in, of_each
from PIL import Image


def test_resizing_scales_the_shorter_side_and_crops_the_middle(root, read):
    """A picture of 16 x 8 whose middle 8 x 8 is white, to 4 x 4: all white."""
    wide = Image.new("RGB", (16, 8), (0, 0, 0))
    wide.paste((255, 255, 255), (4, 0, 12, 8))
    of_each(root, "png", lambda i: Image.new("RGB", (6, 9), (0, 50 * i, 9)), count=4)
    wide.save(root / "b" / "wide.png")
    data = read(size=4, test_fraction=0.5)
    assert data.shape == (3, 4, 4)
    bright = everything(data).flatten(1).float().mean(1) > 230
    assert bright.sum() == 1 and {tuple(image[:, 2, 2].tolist()) for image in everything(data)[~bright]} == {
        (0, 50 * i, 9) for i in range(4)
    }


def test_mode_converts_colour_grey_and_palette(root, read):
    """Grey is ITU-R 601-2 luma, 299/1000 R + 587/1000 G + 114/1000 B."""
    colour = Image.new("RGB", (8, 8), (200, 100, 50))
    of_each(root, "png", lambda i: (colour, Image.new("L", (8, 8), 60), colour.quantize())[i], count=3)
    data = read(mode="L", test_fraction=0.5)
    luma = round((299 * 200 + 587 * 100 + 114 * 50) / 1000)
    values = np.array(sorted(everything(data)[:, 0, 0, 0].tolist()))
    assert data.shape == (1, 8, 8) and np.abs(values - [60, 60, luma, luma, luma, luma]).max() <= 1


def test_a_photo_is_turned_as_its_camera_was(root, read):
    image = Image.new("RGB", (8, 8))
    image.paste((255, 255, 255), (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn by 90 degrees clockwise
    of_each(root, "png", lambda i: image, exif=exif)
    Image.new("RGB", (8, 8)).save(root / "a" / "0.png")
    turned = max(everything(read(test_fraction=0.5)), key=lambda image: image.float().sum())
    assert torch.all(turned[:, :, 4:] == 255) and torch.all(turned[:, :, :4] == 0)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white_and_counted(root, read, said, mode):
    """alpha * colour + (1 - alpha) * 255, for each channel; other colours lie under alpha 0, and the first pixel tells the image."""

    def make(i):
        pixels = np.zeros((4, 4, 4), np.uint8)
        pixels[:, :2] = (9, 200, 77, 0)
        pixels[:, 2:] = (0, 0, 0, 255)
        pixels[0, 0] = (0, 0, 255, 255 * i // 3)
        image = Image.fromarray(pixels, "RGBA")
        return image.quantize() if mode == "P" else image.convert(mode)

    of_each(root, "png", make, count=4)
    made = everything(read(mode="RGB", test_fraction=0.5))
    assert torch.all(made[:, :, 1:, :2] == 255) and torch.all(made[:, :, :, 2:] == 0)
    blue = 29 if mode == "LA" else 0  # 0.114 * 255, grey
    wanted = [(255 * i // 3) / 255 * blue + 255 - 255 * i // 3 for i in range(4)]
    assert np.abs(np.array(sorted(made[:, 0, 0, 0].tolist())) - sorted(wanted * 2)).max() <= 1
    assert said()[3:] == ["8 images with transparency, laid on white"]


@pytest.mark.parametrize("alpha", ["by colour", "opaque"])
def test_a_colour_that_stands_for_transparency_counts_and_an_opaque_channel_does_not(root, read, said, alpha):
    """The tRNS chunk of a PNG without alpha: the mode stays RGB, and so no conversion is asked for."""

    def make(i):
        image = Image.new("RGB", (4, 4), (1, 2, 3))
        image.putpixel((0, 0), (200, 100, 50 * i))
        return image if alpha == "by colour" else image.convert("RGBA")

    of_each(root, "png", make, **({"transparency": (1, 2, 3)} if alpha == "by colour" else {}))
    made = everything(read(mode=None if alpha == "by colour" else "RGB", test_fraction=0.5))
    assert {tuple(image[:, 0, 0].tolist()) for image in made} == {(200, 100, 0), (200, 100, 50)}
    assert torch.all(made[:, 0, 1:] == (255 if alpha == "by colour" else 1))
    assert said()[3:] == (["4 images with transparency, laid on white"] if alpha == "by colour" else [])


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP"])
def test_of_several_frames_the_first_is_taken_and_counted(root, read, said, kind):
    def make(i):
        image = Image.new("RGB", (4, 4), (40 + 20 * i,) * 3)
        image.putpixel((3, 3), (0, 0, 0))
        return image

    more = {"lossless": True} if kind == "WEBP" else {}
    later = [Image.new("RGB", (4, 4), (value,) * 3) for value in (200, 250)]
    of_each(root, kind.lower(), make, format=kind, save_all=True, append_images=later, **more)
    assert sorted(everything(read(mode="L", test_fraction=0.5))[:, 0, 0, 0].tolist()) == [40, 40, 60, 60]
    assert said()[3:] == ["4 images with several frames, of which the first is taken"]


ALIKE = "set options.mode to RGB or L to convert all"


@pytest.mark.parametrize(
    ("name", "image", "options", "line"),
    [
        ("b/1", Image.new("RGB", (8, 9)), {}, "{odd}: 8 x 9 pixels, but {first} has 8 x 8; set options.size to resize all"),
        ("b/1", Image.new("L", (8, 8)), {}, f"{{odd}}: mode L, but {{first}} is RGB; {ALIKE}"),
        ("b/1", Image.new("P", (8, 8)), {}, f"{{odd}}: mode P, but {{first}} is RGB; {ALIKE}"),
        ("a/0", Image.new("RGBA", (8, 8)), {}, f"{{odd}}: mode RGBA; {ALIKE} images"),
        ("b/1", Image.new("I;16", (8, 8)), {"mode": "L"}, "{odd}: mode I;16 has more than 8 bits a channel; save it as an 8-bit image"),
        ("b/1", b"hello", {}, "{odd}: not a readable image (UnidentifiedImageError); repair or remove it"),
        ("b/1", b"", {}, "{odd}: not a readable image (UnidentifiedImageError); repair or remove it"),
    ],
)
def test_an_image_that_does_not_fit(root, prepare, line_of, tmp_path, name, image, options, line):
    of_each(root, "png", lambda i: Image.new("RGB", (8, 8), (i, 2, 3)))
    odd = root / f"{name}.png"
    odd.write_bytes(image) if isinstance(image, bytes) else image.save(odd)
    assert line_of(prepare, "imagefolder", path=str(root), **options) == line.format(odd=odd, first=root / "a" / "0.png")
    assert left_in(tmp_path / "out") == []


# A folder's identity.

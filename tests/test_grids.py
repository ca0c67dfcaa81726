"""Image grids: which images, where, and unchanged down to the pixels of the file."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from esp_core import parametrisations
from esp_core.distillation.condensed import save_condensed
from esp_core.parametrisations import Task
from esp_core.runtime.errors import UserError
from esp_core.stages import grids

ROOT = Path(__file__).resolve().parents[1]


def condensed(labels, classes, ipc=1, channels=3, size=8):
    """A stand-in for a loaded set, random images of eight bits."""
    shape = (len(labels), channels, size, size)
    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)) / 255
    return SimpleNamespace(images=images, labels=torch.tensor(labels), classes=tuple(classes), task=SimpleNamespace(ipc=ipc))


def test_a_row_shows_images_of_its_class_evenly_spaced_enlarged_pixel_by_pixel():
    data = condensed([1, 0] * 21, ["zero", "one"])
    panel = grids.panel(data, "esp", "ESP", most=5)
    assert panel.title == "ESP, IPC 1\n5 of 21 images a class"
    ((names, picture),) = panel.stacks
    assert names == ["zero", "one"]
    factor, cell = 6, 48 + grids.GAP  # 8 pixels, enlarged to 48
    assert picture.shape == (2 * cell - grids.GAP, 5 * cell - grids.GAP, 3)
    expected = np.ones_like(picture)
    for row in range(2):
        for column, k in enumerate([0, 5, 10, 15, 20]):
            image = data.images[2 * k + 1 - row]  # image 2k has label 1, image 2k + 1 label 0
            for y in range(48):
                for x in range(48):
                    expected[row * cell + y, column * cell + x] = image[:, y // factor, x // factor]
    assert np.array_equal(picture, expected)


def test_a_class_with_fewer_images_than_columns_leaves_white_and_the_title_says_so():
    panel = grids.panel(condensed([0, 0, 0, 1], ["a", "b", "none"]), "esp", "ESP")
    assert panel.title.endswith("3 of 0 to 3 images a class")
    picture = panel.stacks[0][1]
    assert (picture[50:98, 50:] == 1).all()
    assert (picture[100:] == 1).all()
    assert not (picture[50:98, :48] == 1).all()


@pytest.mark.parametrize("channels", [1, 2])
def test_other_than_three_channels_are_grey(channels):
    data = condensed([0], ["a"], channels=channels)
    picture = grids.panel(data, "esp", "ESP").stacks[0][1]
    assert np.array_equal(picture[..., :1].repeat(3, -1), picture)
    np.testing.assert_allclose(picture[::6, ::6, 0], data.images[0].mean(0).numpy(), rtol=1e-6)


def test_many_classes_stand_in_stacks_side_by_side():
    data = condensed([label for label in range(60) for _ in range(9)], [f"class {i}" for i in range(60)], size=2)
    panel = grids.panel(data, "esp", "ESP")
    assert [len(names) for names, _ in panel.stacks] == [20, 20, 20]
    assert [names[0] for names, _ in panel.stacks] == ["class 0", "class 20", "class 40"]
    assert panel.title.endswith("5 of 9 images a class")
    first_of_class_20 = data.images[20 * 9].permute(1, 2, 0).numpy()
    assert np.array_equal(panel.stacks[1][1][:48:24, :48:24], first_of_class_20)


def test_methods_stand_below_one_another_and_ipcs_side_by_side():
    panels = [grids.panel(condensed([0, 1] * ipc, ["a", "b"], ipc), method, method.upper()) for method in ("esp", "dm") for ipc in (10, 1)]
    (axes,) = grids.grid(panels, "digits: synthetic images").axes
    assert axes.texts[0].get_text() == "digits: synthetic images"
    places = {title[0]: text.get_position() for text in axes.texts[1:] if len(title := text.get_text().split("\n")) > 1}
    assert set(places) == {"ESP, IPC 1", "ESP, IPC 10", "DM, IPC 1", "DM, IPC 10"}
    assert places["ESP, IPC 1"][0] == places["DM, IPC 1"][0] < places["ESP, IPC 10"][0] == places["DM, IPC 10"][0]
    assert places["ESP, IPC 1"][1] == places["ESP, IPC 10"][1] < places["DM, IPC 1"][1] == places["DM, IPC 10"][1]  # y points down


@pytest.mark.parametrize(("classes", "size", "letter"), [(10, 16, "0"), (30, 32, "WWWide_Name_Of_A_Class"), (60, 64, "i"), (2, 8, "")])
def test_no_text_overlaps_another_or_an_image_or_leaves_the_figure(classes, size, letter):
    names = [f"{i}{letter}" for i in range(classes)]
    panels = [
        grids.panel(condensed([c for c in range(classes) for _ in range(ipc)], names, ipc, size=size), method, "A method of some length")
        for method in ("esp", "dm")
        for ipc in (1, 10)
    ]
    figure = grids.grid(panels, "TinyImageNet: synthetic images")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    written = figure.axes[0].texts
    boxes = np.array([t.get_window_extent(canvas.get_renderer()).extents for t in written])
    pictures = np.array([image.get_window_extent().extents for image in figure.axes[0].images])
    width, height = canvas.get_width_height()
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= width).all()
    assert (boxes[:, 3] <= height).all()
    both = np.concatenate([boxes, pictures])
    for i, (left, bottom, right, top) in enumerate(boxes):
        others = np.delete(both, i, axis=0)
        overlap = (others[:, 0] < right) & (others[:, 2] > left) & (others[:, 1] < top) & (others[:, 3] > bottom)
        assert not overlap.any(), (written[i].get_text(), others[overlap])


def test_a_long_class_name_is_cut_and_dollars_are_no_formula():
    panel = grids.panel(condensed([0, 1], ["goldfish, Carassius auratus", "$x^{$"]), "esp", "$\\$")
    assert panel.stacks[0][0] == ["goldfish, Caras…", "$x^{$"]
    figure = grids.grid([panel], "$all$")
    FigureCanvasAgg(figure).draw()
    assert not any(text.get_parse_math() for text in figure.axes[0].texts)


def test_the_png_holds_the_images_pixel_by_pixel_and_both_files_are_the_same_again(tmp_path):
    panel = grids.panel(condensed([0, 1, 2] * 4, ["a", "b", "c"], size=32), "esp", "ESP")
    files = []
    for folder in ("one", "two"):
        out = tmp_path / folder / "figure4.png"
        grids.save(grids.grid([panel], "cifar10"), out)
        files.append((out.read_bytes(), out.with_suffix(".pdf").read_bytes()))
        assert sorted(p.name for p in out.parent.iterdir()) == ["figure4.pdf", "figure4.png"]
    assert files[0] == files[1]
    assert files[0][1].startswith(b"%PDF-")
    picture = panel.stacks[0][1]
    left, top = grids.SPACE + panel.margin, grids.TITLE + grids.SPACE + grids.TITLE
    drawn = np.asarray(Image.open(tmp_path / "one/figure4.png").convert("RGB"))
    part = drawn[top : top + picture.shape[0], left : left + picture.shape[1]]
    assert np.array_equal(part, (picture * 255).round().astype(np.uint8))
    assert (drawn[top - 1] == 255).all()


def stored(path, dataset="digits", method="esp", classes=("zero", "one")):
    task = Task(len(classes), 1, 1, 8)
    settings = {"kind": "pixels"}
    synthetic = parametrisations.build(task, **settings)
    made = {"spec": {"dataset": dataset, "ipc": 1, "method": method}} if dataset else {}
    save_condensed(path, synthetic, settings, tuple(classes), made)
    return path


def test_the_command_draws_stored_sets(tmp_path, monkeypatch, capsys):
    sets = [stored(tmp_path / f"{method}.safetensors", method=method) for method in ("esp", "dm")]
    out = tmp_path / "figures/grid-digits.png"
    spec = '{"figure": null, "dataset": "digits", "titles": {"esp": "ESP"}}'
    monkeypatch.setattr(sys, "argv", ["grids", "--spec", spec, "--condensed", *map(str, sets), "--out", str(out)])
    grids.main()
    assert capsys.readouterr().out == f"{out}: 2 condensed sets\n"
    assert out.with_suffix(".pdf").stat().st_size > 0
    assert min(Image.open(out).size) > 100


@pytest.mark.parametrize("dataset", ["cifar10", None])
def test_a_set_of_another_dataset_is_refused(tmp_path, dataset):
    path = stored(tmp_path / "esp.safetensors", dataset=dataset)
    message = f"{path}: condenses {dataset or 'something else'}, not digits; leave it out"
    with pytest.raises(UserError, match=re.escape(message)):
        grids.run({"dataset": "digits", "titles": {}}, [path], tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()

"""The curves of a cell's losses: what is drawn, read back from the axes, against numbers put in."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
from handwritten_rows import put

from esp_core.distillation import checkpoint, condensed
from esp_core.stages import losses
from esp_core.study.config import Study

HEADERS = {
    "esp": {"losses": {"distribution": "20:0.5 40:0.25", "projection": "20:3 40:2"}},
    "kip": {"losses": {"kernel": "20:-1 40:-2"}},
    "random": {"losses": {}},
    "old": {},
}


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """The figure of a cell of four sets and three rows' files, one of which is of a time without curves."""
    monkeypatch.setattr(condensed, "load_condensed", lambda path: SimpleNamespace(metadata={**HEADERS[path], "spec": {"method": path}}))
    put(tmp_path, "digits", 1, "esp", [90.0, 91.0], curve="1:4 10:2")
    put(tmp_path, "digits", 1, "kip", [80.0], curve="1:3 10:1")
    old = put(tmp_path, "digits", 1, "old", [80.0], curve="")
    figures = []
    monkeypatch.setattr(losses, "save", lambda figure, out: figures.append(figure))
    rows = [*(tmp_path / f"evaluated/digits/ipc-1/{name}/convnet3.csv" for name in ("esp", "kip")), old]
    losses.run({"dataset": "digits", "ipc": 1, "titles": {"esp": "ESP"}}, HEADERS, rows, tmp_path / "out.png")
    return figures[0]


def test_a_panel_an_objective_and_a_network_and_a_line_a_method(drawn):
    assert [axes.get_title() for axes in drawn.axes] == ["distribution", "projection", "kernel", "training loss, ConvNet-3"]
    lines = [[line.get_xydata().tolist() for line in axes.lines] for axes in drawn.axes]
    assert lines == [[[[20, 0.5], [40, 0.25]]], [[[20, 3], [40, 2]]], [[[20, -1], [40, -2]]], [[[1, 4], [10, 2]], [[1, 3], [10, 1]]]]
    assert [axes.get_yscale() for axes in drawn.axes] == ["log", "log", "linear", "log"]  # a logarithm has no place for -1
    assert [axes.get_xlabel() for axes in drawn.axes] == ["outer step"] * 3 + ["epoch"]
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["ESP", "kip"]


def test_the_training_loss_is_the_mean_over_seeds():
    import pandas as pd

    frame = pd.DataFrame({"network": "convnet3", "method": "esp", "curve": ["1:4 10:2", "1:2 10:1"]})
    assert dict(losses.trained(frame)) == {("training loss, ConvNet-3", "epoch"): {"esp": [(1, 3.0), (10, 1.5)]}}


@pytest.mark.parametrize(("count", "first", "between"), [(0, None, 0), (1, 20, 0), (100, 20, 20), (101, 20, 40), (250, 20, 60)])
def test_a_header_holds_a_hundred_points_at_most_and_the_last(count, first, between):
    seen = [(20 * i, {"kernel": 1 / i}) for i in range(1, count + 1)]
    curve = losses.parsed(checkpoint.Losses(seen).curves().get("kernel", ""))
    assert len(curve) <= 100 and [step for step, _ in curve][-1:] == [20 * count] * bool(count)
    assert all(value == pytest.approx(20 / step, rel=1e-3) for step, value in curve)
    if count:
        assert curve[0][0] == first and {b - a for (a, _), (b, _) in pairwise(curve)} <= {between}


def test_a_cell_whose_sets_are_only_chosen_has_no_losses():
    def cells(methods):
        study = Study({"study": "s", "datasets": {"digits": {"ipc": [1]}}, "networks": ["convnet3"], "methods": methods})
        return [job[1:] for job in study.jobs() if job[0] == "losses"]

    assert cells({"random": {}, "full": {}}) == [] and cells({"random": {}, "dm": {}}) == [("digits", "1")]

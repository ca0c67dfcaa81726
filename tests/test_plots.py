"""Figures 7 and 8: what is drawn, read back from the axes, against numbers put in."""

import csv
import re
import statistics

import pytest
from handwritten_rows import put, row_files

from esp_core.runtime.errors import UserError
from esp_core.stages import plots

SPEC = {"figure": 7, "dataset": "cifar10", "network": "convnet3", "at": 10, "rows": [], "titles": {"esp": "ESP", "mtt": "MTT"}}


def memory_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["axis", "method", "ipc", "steps", "bytes"])
        writer.writerows(rows)
    return path


def test_memory_is_drawn_in_megabytes_over_both_axes(tmp_path):
    rows = [("steps", "esp", 10, n, 5e6) for n in (1, 10)] + [("steps", "mtt", 10, 1, 7e6), ("steps", "mtt", 10, 10, "")]
    rows += [("ipc", "esp:plain", ipc, 1, ipc * 1e6) for ipc in (50, 1)] + [("ipc", "mtt", 1, 1, 3e6)]
    figure = plots.memory(SPEC, plots.read_memory(memory_csv(tmp_path / "m.csv", rows)))
    left, right = figure.axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in left.lines}
    assert drawn == {"ESP": [[1, 5], [10, 5]], "MTT": [[1, 7]]}  # the point that did not fit is left out
    assert {line.get_label(): line.get_xydata().tolist() for line in right.lines} == {
        "ESP, plain double backward": [[1, 1], [50, 50]],
        "MTT": [[1, 3]],
    }
    assert (left.get_ylabel(), left.get_xlabel(), right.get_xlabel()) == (
        "peak memory of a step, MB",
        "synthetic steps",
        "images per class",
    )
    looks = [(line.get_marker(), line.get_linestyle()) for line in left.lines]
    assert len(set(looks)) == len(looks)  # told apart without colour


@pytest.mark.parametrize("text", ["axis,method,ipc,steps\n", "", "axis,method,ipc,steps,bytes\nsteps,esp,1,1,5\n"])
def test_a_file_that_is_no_measurement_is_refused(tmp_path, text):
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))}: .*delete it and run again$"):
        plots.read_memory(path)


def test_the_sweep_has_a_point_a_batch_and_knows_the_complete_set(tmp_path):
    put(tmp_path, "cifar10", 10, "esp_64", [60.0, 62.0, 64.5], images=800)
    put(tmp_path, "cifar10", 10, "esp", [66.0, 67.0, 68.0], images=800)
    rows = [{"ipc": 10, "method": "esp", "synthetic_batch": None}, {"ipc": 10, "method": "esp_64", "synthetic_batch": 64}]
    spec = {**SPEC, "rows": rows}
    frame = plots.sweep(spec, row_files(tmp_path))
    assert frame.synthetic_batch.tolist() == [64, 800] and frame.complete.tolist() == [False, True] and frame.n.tolist() == [3, 3]
    assert frame["mean"].tolist() == pytest.approx([statistics.mean([60.0, 62.0, 64.5]), 67.0])
    assert frame["std"].tolist() == pytest.approx([statistics.stdev([60.0, 62.0, 64.5]), 1.0])
    figure = plots.batches(spec, frame)
    (axes,) = figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[64, pytest.approx(62.1667, abs=1e-3)], [800, 67.0]]
    assert axes.get_title() == "CIFAR10, ConvNet-3, n = 3 seeds" and axes.get_ylabel() == "accuracy, %"


def test_rows_of_two_protocols_are_not_drawn_together(tmp_path):
    put(tmp_path, "cifar10", 10, "esp_64", [60.0], images=800)
    put(tmp_path, "cifar10", 10, "esp", [66.0], images=800, protocol="idc-0")
    rows = [{"ipc": 10, "method": name, "synthetic_batch": batch} for name, batch in (("esp", None), ("esp_64", 64))]
    with pytest.raises(UserError, match="more than one protocol"):
        plots.sweep({**SPEC, "rows": rows}, row_files(tmp_path))

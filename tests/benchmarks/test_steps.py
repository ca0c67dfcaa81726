import subprocess
import sys

from printed import ROOT, table

from benchmarks import steps
from esp_core.stages.footprint import COMPLETE

SMALL = "--ipc 1 --size 16 --width 32 --repeats 1 --real-batch 2 --classes 3 --channels 3"


def test_the_benchmark_prints_a_row_a_way():
    rows = table("steps", f"{SMALL} --steps 1 3 --methods dm mtt")
    assert [(row[0], row[2]) for row in rows] == [("dm", "1"), ("mtt", "1"), ("mtt:replay", "1"), ("mtt", "3"), ("mtt:replay", "3")]
    memory = {(row[0], row[2]): float(row[6]) for row in rows}
    assert memory["mtt", "3"] > 2 * memory["mtt", "1"] and memory["mtt:replay", "3"] < 1.5 * memory["mtt:replay", "1"]


def test_bfloat16_stands_beside_float32_with_the_cosine_of_the_gradients():
    rows = {row[0]: row for row in table("steps", f"{SMALL} --methods dm --bfloat16")}
    assert rows.keys() == {"dm", "dm:bfloat16"}
    assert rows["dm"][7] == "" and 0.9 < float(rows["dm:bfloat16"][7]) < 1


def test_compiled_code_stands_beside_eager_where_there_is_any():
    rows = {row[0]: row for row in table("steps", f"{SMALL} --methods dm dsa --compile")}
    assert rows.keys() == {"dm", "dm:compiled", "dsa", "dsa:compiled"}
    assert all(float(rows[f"{name}:compiled"][7]) > 0.999 and rows[name][7] == "" for name in ("dm", "dsa"))


def test_a_way_that_the_device_cannot_hold_is_a_row_that_says_so(monkeypatch, capsys):
    def scarce(job):
        return None if job.recipe["micro_batch"] == COMPLETE else 0.001

    monkeypatch.setattr(steps, "seconds", scarce)
    monkeypatch.setattr(sys, "argv", ["steps", *SMALL.split(), "--methods", "esp"])
    steps.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| esp")]
    assert [(row[0], row[4]) for row in rows] == [("| esp", "1.0 (1.0 to 1.0)"), ("| esp:plain", "out of memory")]


def test_a_profile_names_the_convolutions():
    command = [sys.executable, "-m", "benchmarks.steps", *SMALL.split(), "--profile", "dm"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "aten::" in done.stdout and "convolution" in done.stdout

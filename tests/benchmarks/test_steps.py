import subprocess
import sys
from pathlib import Path


def test_the_benchmark_prints_a_row_a_way():
    options = "--ipc 1 --steps 1 3 --size 16 --width 32 --repeats 1 --real-batch 2 --classes 3 --channels 3 --methods dm mtt".split()
    command = [sys.executable, "-m", "benchmarks.steps", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    assert [(row[0], row[2]) for row in rows] == [("dm", "1"), ("mtt", "1"), ("mtt:replay", "1"), ("mtt", "3"), ("mtt:replay", "3")]
    memory = {(row[0], row[2]): float(row[-1]) for row in rows}
    assert memory["mtt", "3"] > 2 * memory["mtt", "1"] and memory["mtt:replay", "3"] < 1.5 * memory["mtt:replay", "1"]

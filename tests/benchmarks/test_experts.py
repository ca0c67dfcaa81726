import os
import subprocess
import sys
from pathlib import Path


def test_the_benchmark_runs_small_and_both_sides_train_alike():
    environment = {key: value for key, value in os.environ.items() if key != "ESP_REAL_DATA"}
    command = [sys.executable, "-m", "benchmarks.experts", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "NOISE, not images" in lines[1]
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines if line.startswith("| ")}
    assert rows["plain"][3] == rows["ours"][3]  # accuracy, after the same draws in the same arithmetic
    assert float(rows["ours"][1]) > 0
    assert any(line.startswith("floor at width 128: ") for line in lines)

"""Running a benchmark as a user does, and its table."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def table(module, options):
    """The rows below the titles, as lists of cells."""
    done = subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *options.split()], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# ")
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line.startswith("| ")][2:]

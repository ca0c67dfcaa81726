"""Building the graph of jobs: what `snakemake` takes before the first job starts, from the number of jobs.

    python -m benchmarks.dag [--configs config/demo.yaml config/config.yaml] [--repeats 3]

Each is a dry run in a process and a folder of its own, so that nothing is done yet. Beside them, in turns, a dry run of a workflow of one
rule without input: what Snakemake takes to start, whatever the workflow.
"""

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EMPTY = 'rule all:\n    output: "done"\n    shell: "touch {output}"\n'


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--configs", type=Path, nargs="+", default=[ROOT / "config" / "demo.yaml", ROOT / "config" / "config.yaml"])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(f"# {platform.machine()}, Python {platform.python_version()}, snakemake {version('snakemake')}")
    print(f"# wall seconds of a dry run, medians (min to max) of n = {arguments.repeats}\n")
    titles = ("workflow", "jobs", "seconds", "above an empty workflow", "ms a job")
    print(f"| {' | '.join(titles)} |\n{'| --- ' * len(titles)}|")
    with tempfile.TemporaryDirectory() as name:
        folder, names = Path(name), {"empty": []} | {str(path): ["--configfile", str(path.resolve())] for path in arguments.configs}
        prepare(folder)
        times: dict[str, list[float]] = {own: [] for own in names}
        jobs: dict[str, int] = {}
        for _ in range(arguments.repeats):
            for own, words in names.items():
                seconds, jobs[own] = dry_run(folder / ("empty" if own == "empty" else "whole"), words)
                times[own].append(seconds)
    base = statistics.median(times["empty"])
    for own, seconds_of in times.items():
        middle = statistics.median(seconds_of)
        above = f"{middle - base:.2f} | {1000 * (middle - base) / jobs[own]:.1f}" if own != "empty" else " | "
        title = "one rule, no input" if own == "empty" else Path(own).name
        print(f"| {title} | {jobs[own]} | {middle:.2f} ({min(seconds_of):.2f} to {max(seconds_of):.2f}) | {above} |")


def prepare(folder: Path) -> None:
    """A folder with the workflow, where nothing has run, and one with a workflow of one rule."""
    for part in ("esp_core", "workflow", "config"):
        shutil.copytree(ROOT / part, folder / "whole" / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "environment.yml", folder / "whole")
    (folder / "empty").mkdir()
    (folder / "empty" / "Snakefile").write_text(EMPTY)


def dry_run(folder: Path, words: list[str]) -> tuple[float, int]:
    """Wall seconds, and the number of jobs that would run."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules", "--cores", "1", *words]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=False)
    seconds = time.perf_counter() - start
    total = re.search(r"^total\s+(\d+)", done.stdout + done.stderr, re.MULTILINE)
    if done.returncode or total is None:
        sys.exit(f"error: {' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return seconds, int(total[1])


if __name__ == "__main__":
    main()

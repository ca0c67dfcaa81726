"""Kill the whole workflow again and again, restart it with the same command, and compare what it leaves with an undisturbed run.

    python tests/chaos/kill_the_workflow.py [--kills 100] [--seed 0] [--keep FOLDER]

A small study with the demo's rules (two cells, two methods, two expert shards) runs once undisturbed. Then it is started, and Snakemake
with all its jobs killed by SIGKILL at a random moment; the command that goes on is the one that started it. A run that lives to its end
is compared, its results are deleted, and the next begins, until there were so many kills and the last run is whole. Compared are every
value of every step, scale and digest of the experts, the tensors of the condensed sets, the rows of the evaluations but for times
and memory, and the tables byte by byte. Prints a line a run and the number of differences, which is also the exit status.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
STUDY = {
    "study": "chaos",
    "device": "cpu",
    "datasets": {"digits": {"ipc": [1, 2], "options": {"size": 16}}},
    "distill_network": {"name": "convnet3", "width": 8, "depth": 3},
    "experts": {"count": 2, "shard": 1, "keep": 5, "epochs": 4, "lr": 0.05},
    "methods": {
        "dm": {"iterations": 20, "real_batch": 8},
        "esp": {
            "iterations": 20,
            "real_batch": 8,
            "teacher": {"length": 1, "steps": 2, "start_max": 1},
            "parametrisation": {"decoders": 2, "code_channels": 1, "width": 2},
        },
    },
    "evaluation": {"seeds": 2, "epochs": 5},
}
PASSING = {"seconds", "peak_memory_bytes"}  # columns that no two runs share
COMMAND = ["--configfile", "config/chaos.json", "--quiet", "all"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        whole, chaos = (copied(folder / name) for name in ("undisturbed", "killed"))
        start = time.monotonic()
        assert start_run(whole).wait() == 0, "the undisturbed run failed"
        length = time.monotonic() - start
        return torment(whole, chaos, arguments.kills, random.Random(arguments.seed), length)


def torment(whole: Path, chaos: Path, kills: int, chance: random.Random, length: float) -> int:
    """Kill runs in `chaos` until there were `kills`, and compare each whole one with `whole`; returns the differences."""
    done = found = runs = here = 0
    expected = content(whole)
    while True:
        child = start_run(chaos)
        last = done >= kills
        try:
            # Up to half a run's length, so that most starts get somewhere and few get to the end.
            status = child.wait(timeout=None if last else chance.uniform(0.5, length / 2))
        except subprocess.TimeoutExpired:
            kill(child)
            done, here = done + 1, here + 1
            continue
        runs += 1
        differences = [f"the command ended with {status}"] if status else compare(expected, content(chaos))
        found += len(differences)
        print(f"run {runs}: {here} kills, {len(differences)} differences {'; '.join(differences[:3])}", flush=True)
        here = 0
        shutil.rmtree(chaos / "results" / "chaos", ignore_errors=True)
        if last:
            print(f"{done} kills, {runs} runs, {found} differences; an undisturbed run takes {length:.0f} s")
            return min(found, 99)


def copied(folder: Path) -> Path:
    """A copy of what the workflow runs on, with the study in it."""
    for name in ("esp_core", "workflow", "config"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    shutil.copy(ROOT / "environment.yml", folder)
    (folder / "config" / "chaos.json").write_text(json.dumps(STUDY))
    return folder


def start_run(folder: Path) -> "subprocess.Popen[bytes]":
    """The command, as `make demo` types it: what a power cut left locked is unlocked first. In a process group of its own."""
    words = " ".join(COMMAND)
    command = f"{sys.executable} workflow/scripts/unlock.py {words} && exec {sys.executable} -m snakemake {words}"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            ["sh", "-c", command], cwd=folder, stdout=log, stderr=log, start_new_session=True, env={**os.environ, "PATH": path}
        )


def kill(child: "subprocess.Popen[bytes]") -> None:
    """SIGKILL to the command and to all that it started, at once."""
    family = [*psutil.Process(child.pid).children(recursive=True)]
    os.killpg(child.pid, signal.SIGKILL)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    child.wait()
    psutil.wait_procs(family, timeout=30)


def content(folder: Path) -> dict[str, Any]:
    """What a finished run left, by file, in a form that can be compared."""
    sys.path.insert(0, str(ROOT))
    from safetensors.torch import load_file

    results, found = folder / "results" / "chaos", {}
    for path in sorted(p for p in results.rglob("*") if p.is_file()):
        name = str(path.relative_to(results))
        if name.startswith(("logs/", "benchmarks/")):
            continue
        if ".part" in name or path.name.startswith("."):
            found[name] = "left over"
        elif path.suffix == ".safetensors":
            found[name] = {key: tensor.numpy().tobytes() for key, tensor in load_file(path).items()}
        elif name.startswith("evaluated/"):
            found[name] = [{k: v for k, v in row.items() if k not in PASSING} for row in csv.DictReader(path.open())]
        elif name.startswith("experts/") and path.suffix == ".h5":
            found[name] = stored(path)
        elif name.startswith("tables/"):
            found[name] = path.read_bytes()
        else:
            found[name] = "there"
    return found


def stored(path: Path) -> Any:
    """All that a shard holds of its experts but for times."""
    import h5py

    with h5py.File(path) as file:
        return {name: file[name][:].tobytes() for name in file if name != "seconds"}


def compare(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """A line a file that is not there, should not be, or differs."""
    names = sorted(expected.keys() | found.keys())
    return [
        f"{name}: {'differs' if name in expected and name in found else 'missing or left over'}"
        for name in names
        if expected.get(name) != found.get(name)
    ]


if __name__ == "__main__":
    sys.exit(main())

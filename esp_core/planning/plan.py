"""The cost of a study, before anything runs: jobs, device-hours, wall time, disk and device memory, by stage.

    python -m esp_core plan [CONFIG] [--device cpu|h100] [--profile workflow/profiles/NAME] [--cores 16] [--gpus 4] [--results results]

With $ESP_GPU_SHARE, as in the workflow, so many jobs share a GPU: while one of them waits for its CPU, the GPU works for another.
Only jobs that are not done have a cost. A job is done if its output exists; `snakemake -n` tells whether it would rerun because settings
or code changed. The rates are in esp_core/planning/rates.yaml, each with its source.
"""

import argparse
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from esp_core.planning.costing import Cost, cost
from esp_core.planning.rates import Device, device, rate
from esp_core.runtime import leases
from esp_core.runtime.errors import UserError, command
from esp_core.study import arguments, output_paths
from esp_core.study.config import Study, load
from esp_core.study.gpu import device_type, threads
from esp_core.study.provenance import ROOT

# The stages in the plan, and the stages of jobs that each covers.
STAGES = {
    "download": ("download",),
    "prepare": ("prepare", "trial", "network"),
    "experts": ("experts", "manifest"),
    "distill": ("distill", "import_set"),
    "evaluate": ("evaluate",),
    "tables": ("tables", "comparisons", "claims", "settings"),
    "figures": ("footprint", "grids", "plots", "losses"),
}
DEFAULT = ROOT / "workflow" / "profiles" / "default"
ONE_GPU: dict[str, Any] = {"resources": {"gpu": 1}}  # for an installation without profiles
RULES = {"experts": "train_experts", "distill": "distill", "evaluate": "evaluate", "figures": "measure_memory"}


@dataclass(frozen=True)
class Slots:
    """What runs at once: CPU cores, jobs on the device, threads by rule. The device is cuda, mps or cpu, on this machine or elsewhere.

    `gpus` is Snakemake's resource `gpu`, the number of jobs on GPUs; `share` of them share one GPU.
    """

    cores: int
    gpus: int
    threads: dict[str, int]
    device: str = "cuda"
    here: bool = True
    share: int = 1

    def of(self, stage: str) -> int:
        """Threads of a job of `stage` on the device."""
        return min(self.cores, self.threads.get(RULES.get(stage, ""), threads(self.device)))

    def jobs(self, stage: str, on_device: bool) -> int:
        """The number of jobs of `stage` that run at once."""
        return max(1, min(self.gpus, self.cores // self.of(stage))) if on_device else self.cores


@dataclass(frozen=True)
class Row:
    """A stage, or all: jobs, those done, and for the others device-hours, hours of wall time, bytes on disk, peak bytes of a job."""

    stage: str
    jobs: int
    done: int
    hours: float
    wall: float
    disk: float
    memory: float


def slots(profile: Path | None, asked: str, cores: int | None = None, gpus: int | None = None) -> Slots:
    """What a Snakemake profile, or `cores` and `gpus` in its place, allow for jobs on the device that a study asks for.

    Raises UserError if the profile cannot be read.
    """
    settings = ONE_GPU if profile is None else _profile(profile)
    wanted = cores or settings.get("cores", settings.get("jobs", "all"))
    cores = _cores() if wanted in ("all", "unlimited") else int(wanted)
    here = settings.get("executor", "local") == "local"
    device = device_type(asked, elsewhere=not here)
    told = any(resources.get("gpu") for resources in (settings.get("set-resources") or {}).values())
    limit = (settings.get("resources") or {}).get("gpu", cores) if told or device != "cpu" else cores
    return Slots(cores, gpus or int(limit), settings.get("set-threads") or {}, device, here, leases.share())


def _profile(profile: Path) -> dict[str, Any]:
    path = profile / "profile.yaml" if profile.is_dir() else profile
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"--profile {profile}: cannot be read ({said}); name a folder of workflow/profiles") from None


def _cores() -> int:
    """The cores that this process may use, as Snakemake counts them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plan(study: Study, name: str, allowed: Slots, results: Path | None = None) -> tuple[list[Row], list[str]]:
    """A row for each stage and one for all, and notes on what was guessed. Without `results` no job counts as done."""
    rows, notes, chain, work = [], [], 0.0, 0.0
    for stage, runs in STAGES.items():
        jobs = [job for job in study.jobs() if job[0] in runs]
        todo = [job for job in jobs if results is None or not (results / output_paths.output(study.name, *job)).is_file()]
        at_once = allowed.jobs(stage, on_device=True)
        on = device(name, allowed.of(stage), min(allowed.share, at_once) if device(name).is_gpu else 1)
        costs = [cost(study, on, *job) for job in todo]
        busy = sum(one.seconds for one in (cost(study, on.busy, *job) for job in todo) if one.device) if on.share > 1 else 0.0
        notes += [note for one in costs for note in one.notes]
        least = max((one.seconds for one in costs), default=0.0)
        wall = sum((one.seconds + rate("workflow", "job")) / allowed.jobs(stage, one.device) for one in costs)
        wall = max(wall, busy * on.share / at_once)
        chain, work = chain + least, work + wall
        disk, memory = sum(one.disk for one in costs), max((one.memory for one in costs), default=0.0)
        rows.append(Row(stage, len(jobs), len(jobs) - len(todo), _hours(costs, on, busy), max(wall, least) / 3600, disk, memory))
    # All stages take at least the total work divided by the jobs at once, and at least the longest jobs of the stages one after another.
    left = any(row.jobs > row.done for row in rows)
    jobs, done, hours, disk = (sum(getattr(row, key) for row in rows) for key in ("jobs", "done", "hours", "disk"))
    wall, report = (max(work, chain) + rate("workflow", "start")) / 3600, rate("disk", "report")
    whole = Row("all", jobs, done, hours, wall * left, disk + report * left, max(row.memory for row in rows))
    return [*rows, whole], list(dict.fromkeys(notes))


def _hours(costs: Iterable[Cost], on: Device, busy: float) -> float:
    """Device-hours: hours of CPU cores, or GPU-hours of the jobs that run on GPUs, at least their `busy` seconds."""
    if on.is_gpu:
        return max(sum(one.seconds for one in costs if one.device) / on.share, busy) / 3600
    return sum(one.seconds * (on.threads if one.device else 1) for one in costs) / 3600


def written(rows: Iterable[Row], name: str) -> Iterator[str]:
    """The rows as aligned lines."""
    unit = "GPU-hours" if device(name).is_gpu else "core-hours"
    yield f"{'stage':<10}{'jobs':>6}{'done':>6}{unit:>12}{'wall time':>14}{'disk':>10}{'memory':>10}"
    for row in rows:
        hours = f"{row.hours:,.0f}" if row.hours >= 10 else f"{row.hours:.2f}"
        cells = f"{hours:>12}{_time(row.wall):>14}{_bytes(row.disk):>10}{_bytes(row.memory):>10}"
        yield f"{row.stage:<10}{row.jobs:>6}{row.done:>6}{cells}"


def _time(hours: float) -> str:
    found = [f"{hours / size:,.1f} {unit}" for unit, size in (("days", 24.0), ("h", 1.0), ("min", 1 / 60)) if hours >= 2 * size]
    return found[0] if found else f"{hours * 3600:.0f} s"


def _bytes(value: float) -> str:
    found = [f"{value / size:.1f} {unit}" for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)) if value >= size]
    return found[0] if found else f"{value / 1e3:.0f} kB" if value else "-"


def _crowded(rows: Iterable[Row], allowed: Slots, on: Device) -> Iterator[str]:
    """A note for each stage whose concurrent jobs may need more memory than this machine has, if they run on its CPU, or than their GPU."""
    for row in rows:
        jobs = allowed.jobs(row.stage, on_device=True)
        shared = min(allowed.share, jobs)
        if on.is_gpu and row.stage in RULES and shared * row.memory > on.total_memory and shared > 1:
            each = f"{shared} jobs on a GPU, of which one may take {_bytes(row.memory)}, can be more than its {_bytes(on.total_memory)}"
            yield f"{row.stage}: {each}; lower {leases.SHARE}"
        if allowed.here and not on.is_gpu and row.stage in RULES and jobs * row.memory > on.total_memory and jobs > 1:
            cores = max(1, int(on.total_memory / row.memory)) * allowed.of(row.stage)
            each = f"{jobs} jobs at once of up to {_bytes(row.memory)} each"
            yield f"{row.stage}: {each} are more than this machine's {_bytes(on.total_memory)}; snakemake --cores {cores} runs fewer"


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text} is no number from 1")
    return int(text)


@command
def main() -> None:
    parser = arguments.named("plan", __doc__)
    parser.add_argument("config", type=Path, nargs="?", default=Path("config/config.yaml"), help="a study, the paper by default")
    parser.add_argument("--device", help="one that rates.yaml has rates for; by default what the study asks for and is here")
    parser.add_argument(
        "--profile", type=Path, default=DEFAULT if DEFAULT.is_dir() else None, help="Snakemake's, the checkout's by default"
    )
    parser.add_argument("--cores", type=_count, help="Snakemake's --cores, in place of the profile's")
    parser.add_argument("--gpus", type=_count, help="jobs on GPUs at once, Snakemake's --resources gpu=GPUS, in place of the profile's")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the folder of results; results by default")
    args = parser.parse_args()
    study = load(args.config)
    asked = str(study.config["device"])
    if args.device:
        asked = "cuda" if device(args.device).is_gpu else "cpu"
    allowed = slots(args.profile, asked, args.cores, args.gpus)
    name = args.device or ("h100" if allowed.device == "cuda" else "cpu")  # the devices with rates
    on = device(name)
    rows, notes = plan(study, name, allowed, args.results)
    measured = ", ".join(["rates measured", *([f"but for {', '.join(on.estimated)}"] if on.estimated else [])])
    at_once = f"{allowed.cores} cores, jobs at once: {allowed.jobs('distill', on_device=True)}, threads of each: {allowed.of('distill')}"
    at_once += f", {allowed.share} on a GPU" if allowed.share > 1 and on.is_gpu else ""
    lines = [f"Study {study.name} on {name} ({measured}: esp_core/planning/rates.yaml), {at_once}", "", *written(rows, name), ""]
    lines += [
        "Jobs are done where their output is there; costs are of the others. Disk is what they leave, memory the most that one job takes."
    ]
    print("\n".join([*lines, *(f"Note: {note}." for note in (*notes, *_crowded(rows, allowed, on)))]))

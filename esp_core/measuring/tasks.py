"""The tasks of an unattended measurement, in order of value: what each depends on, and what it is known by. Light: no torch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from esp_core import methods, plan, specs
from esp_core.datasets import catalogue
from esp_core.methods import FULL
from esp_core.provenance import ROOT, canonical, digest, source_digest
from esp_core.study import Study

STAGES = ("download", "prepare", "experts", "manifest", "distill", "evaluate", "footprint")  # of a study; the others are for Snakemake
COMMANDS = ("agreement", "tests", "benchmark", "choices")  # kinds that run a command of their own
TESTED = ("augment", "networks", "objectives", "parametrisations", "stages", "teachers", "trajectories")
WHOLE = "--size 32 --channels 3 --width 128 --real-batch 256 --bfloat16 --compile"  # the paper's step
BENCHMARKS = {
    "cuda": {
        "experts": ("benchmarks.experts", "--images 25600 --epochs 3 --rounds 3"),
        "steps": ("benchmarks.steps", f"{WHOLE} --ipc 1 --steps 10"),
        "steps-10": ("benchmarks.steps", f"{WHOLE} --ipc 10 --steps 10"),
        "steps-profile": ("benchmarks.steps", f"{WHOLE} --ipc 10 --profile esp"),
        "evaluation": ("benchmarks.evaluation", "--epochs 5"),
        "evaluation-stacked": ("benchmarks.side_by_side", "--whole --epochs 5"),
        "reading": ("benchmarks.reading", ""),
    },
    "cpu": {
        "experts": ("benchmarks.experts", "--images 2560 --epochs 2 --rounds 1"),
        "steps": ("benchmarks.steps", ""),
        "evaluation": ("benchmarks.evaluation", "--networks convnet3 resnet10"),
        "evaluation-stacked": ("benchmarks.side_by_side", ""),
        "reading": ("benchmarks.reading", ""),
    },
}
SECONDS = {"agreement": 40.0, "tests": 240.0, "benchmark": 120.0, "choices": 3600.0}  # guesses, until the same kind has run


@dataclass(frozen=True)
class Device:
    """Where tasks run: `kind` cuda, mps or cpu; its name and torch's version. `forks`: whether a forked process can use it."""

    kind: str
    name: str
    torch: str
    forks: bool = True

    @property
    def short(self) -> str:
        """The name as part of a file's name."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.name.lower()).split()) or self.kind


class Task:
    """A job of a study, or a command (`arguments`: module and options). `after` must be done first."""

    def __init__(self, name: str, kind: str, output: Path, key: str, after: Iterable["Task"] = ()):
        self.name, self.kind, self.output, self.key, self.after = name, kind, output, key, tuple(after)
        self.study: Study | None = None
        self.job: tuple[str, ...] = ()
        self.arguments: tuple[str, ...] = ()
        self.on_processor = False  # whatever the device of the measurement

    @cached_property
    def spec(self) -> dict[str, Any]:
        """That of a study's job."""
        assert self.study is not None
        return specs.spec(self.study, *self.job)

    @cached_property
    def code(self) -> str:
        """The digest of the code of a study's job."""
        assert self.study is not None
        return specs.code(self.study, *self.job)


class Jobs:
    """The tasks of a study's jobs, each made once, over the tasks that it needs."""

    def __init__(self, study: Study, results: Path, prefix: str = ""):
        self.study, self.results, self.prefix = study, results, prefix
        self._made: dict[tuple[str, ...], Task] = {}

    def __getitem__(self, job: tuple[str, ...]) -> Task:
        if job not in self._made:
            self._made[job] = self._make(job)
        return self._made[job]

    def _make(self, job: tuple[str, ...]) -> Task:
        after = [self[other] for other in self._needs(*job)]
        # Verified against constants: where the files came from does not matter below.
        counted = [task.key for task in after if task.kind != "download"]
        own = {"spec": specs.spec(self.study, *job), "code": specs.code(self.study, *job), "after": counted}
        task = Task(self.prefix + " ".join(job), job[0], plan.output(self.results, self.study, *job), digest(canonical(own)), after)
        task.study, task.job, task.on_processor = self.study, job, self.study.config["device"] == "cpu"
        return task

    def _needs(self, stage: str, *job: str) -> Iterator[tuple[str, ...]]:
        study = self.study
        dataset = study.figures[job[0]].dataset if stage == "footprint" else job[0]
        if stage == "prepare" and catalogue.is_official(study.datasets[dataset]["kind"]):
            yield "download", dataset
        if stage not in ("download", "prepare", "manifest"):
            yield "prepare", dataset
        if stage == "manifest":
            yield from (("experts", dataset, str(shard)) for shard in study.shards(dataset))
        if stage == "distill" and study.uses_experts(dataset, int(job[1]), job[2]):
            yield "manifest", dataset
        if stage == "evaluate" and job[2] != FULL:
            yield "distill", *job[:3]


def ordered(
    study: Study, device: Device, results: Path, out: Path, choices: Study | None = None, choices_config: Path | None = None
) -> list[Task]:
    """Every task, most valuable first; what a task needs stands before it."""
    jobs = Jobs(study, results)
    first = next(iter(study.datasets))
    rows = sorted((row for row in study.rows() if row[0] == first), key=lambda row: _value(study, row))
    own = study.distill_network(first)["name"]
    goals = [jobs["prepare", first], *_checks(study, device, out)]
    goals += [jobs["footprint", name] for name, figure in study.figures.items() if figure.number == 7]
    goals += [jobs["experts", first, str(shard)] for shard in study.shards(first)] if _taught(study, first) else []
    goals += [_row(jobs, row) for row in rows if row[3] == own]
    goals += [_row(jobs, row) for row in rows if row[3] != own]
    search = [_choices(choices, choices_config, results)] if choices and choices_config else []
    wasted = device.kind != "cpu" and any(task.on_processor for task in search)  # the device would stand idle: last
    goals += [] if wasted else search
    goals += [_row(jobs, row) for row in sorted(study.rows(), key=lambda row: _value(study, row))]
    goals += [jobs["distill", dataset, str(ipc), method] for dataset, ipc, method in study.condensed()]
    return list(_expanded([*goals, *search]))


def _value(study: Study, row: tuple[str, int, str, str]) -> tuple[int, ...]:
    """The place of (dataset, IPC, method, network): datasets as listed, the distillation's network first, then by IPC."""
    dataset, ipc, method, network = row
    own = study.distill_network(dataset)["name"]
    places = [list(names).index(name) for names, name in ((study.datasets, dataset), (study.networks, network), (study.methods, method))]
    return places[0], 0 if network == own else 1 + places[1], ipc, places[2]


def _row(jobs: Jobs, row: tuple[str, int, str, str]) -> Task:
    dataset, ipc, method, network = row
    return jobs["evaluate", dataset, str(ipc), method, network]


def _taught(study: Study, dataset: str) -> bool:
    return any(study.uses_experts(*cell) for cell in study.condensed() if cell[0] == dataset)


def _checks(study: Study, device: Device, out: Path) -> Iterator[Task]:
    """Whether a device agrees with the processor, the tests, the benchmarks; all again on another device or with another torch."""
    if device.kind != "cpu":
        named = tuple(name for name in study.methods if name in methods.names() and methods.recipe(name)["objectives"])
        if named:
            code = source_digest("esp_core.measuring.agreement")
            yield _command(device, "agreement", "agreement", out, code, ("esp_core.measuring.agreement", "--methods", *named))
        folders = tuple(f"tests/{name}" for name in TESTED)
        code = digest(
            canonical([digest(path.read_bytes()) for path in sorted(ROOT.glob("esp_core/**/*.py")) + sorted(ROOT.glob("tests/**/*.py"))])
        )
        yield _command(device, "tests", "tests", out, code, ("pytest", "-q", "-p", "no:cacheprovider", *folders))
    for name, (module, options) in BENCHMARKS.get(device.kind, BENCHMARKS["cuda"]).items():
        code = source_digest(module, "esp_core.footprint", "esp_core.engine")
        yield _command(device, "benchmark", f"benchmark {name}", out, code, (module, *options.split()))


def _command(device: Device, kind: str, name: str, out: Path, code: str, arguments: tuple[str, ...]) -> Task:
    file = out / "texts" / f"{name.replace(' ', '-')}-{device.short}.txt"
    key = digest(canonical([code, arguments, device.name, device.torch]))
    task = Task(f"{name} on {device.short}", kind, file, key)
    task.arguments = arguments
    return task


def _choices(study: Study, config: Path, results: Path) -> Task:
    """The search of docs/choices.md: every method of a study of choices, once a seed."""
    jobs = Jobs(study, results, prefix=f"{study.name}: ")
    after = [jobs["manifest", dataset] for dataset in study.datasets if _taught(study, dataset)]
    after = after or [jobs["prepare", dataset] for dataset in study.datasets]
    runs = [
        [specs.spec(study, stage, *job), specs.code(study, stage, *job)]
        for dataset, ipc in study.cells
        for method in study.methods
        for stage, *job in (("distill", dataset, str(ipc), method), ("evaluate", dataset, str(ipc), method, study.networks[0]))
    ]
    key = digest(canonical([runs, [task.key for task in after]]))
    task = Task(f"choices of {study.name}", "choices", results / study.name / f"choices-{key}.csv", key, after)
    task.on_processor = study.config["device"] == "cpu"
    against = ("--against", "esp_dm") if "esp_dm" in study.methods else ("--against", next(iter(study.methods)))
    task.arguments = ("benchmarks.choices", str(config.resolve()), *against, "--out", str(task.output.resolve()))
    return task


def _expanded(goals: Iterable[Task]) -> Iterator[Task]:
    """The goals, what each needs before it, each once."""
    seen: set[str] = set()

    def visit(task: Task) -> Iterator[Task]:
        if task.name not in seen:
            seen.add(task.name)
            for other in task.after:
                yield from visit(other)
            yield task

    for goal in goals:
        yield from visit(goal)

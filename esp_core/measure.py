"""One unattended command for a lent GPU: it measures what a study asks for, most valuable first, and picks up where it stopped.

    while python -m esp_core.measure --data DATA; test $? = 75; do :; done
    python -m esp_core.measure --list
    python -m esp_core.measure --report

It works in slices that end before `--seconds` by themselves; exit status 75 means that there is more to do, 0 that there is not. The
jobs of the study leave the same files as the workflow. docs/measured.md says more.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

from esp_core import costing, files
from esp_core.errors import UserError, command
from esp_core.measuring import reporting, running, work
from esp_core.measuring.done import Done
from esp_core.measuring.leaving import CARRIED, Folder
from esp_core.measuring.ledger import Ledger
from esp_core.measuring.running import STOPPED, Asked
from esp_core.measuring.tasks import COMMANDS, SECONDS, Device, Task, ordered
from esp_core.provenance import ROOT
from esp_core.rates import device as rates_of
from esp_core.study import Study, load

FIRST = {"experts": 60.0, "distill": 20.0, "choices": 60.0}  # seconds after which a long task surely has something to go on from
WHOLE = 0.8  # of a slice: as good as all of it
MARGIN = 15.0  # seconds at the end of a slice, or a tenth of a shorter one: for a task to end, and the tables


class Measurement:
    """The tasks of a study, and running those that are left within `seconds`."""

    def __init__(self, study: Study, device: Device, arguments: argparse.Namespace):
        self.device, self.results, self.seconds = device, Path(arguments.results), float(arguments.seconds)
        own = self.results / study.name
        self.study, self.out = study, Path(arguments.out or own / "measured")
        self.logs = own / "logs" / "measure"
        config = None if arguments.choices in (None, "none") else Path(arguments.choices)
        self.tasks = ordered(study, device, self.results, self.out, load(config) if config else None, config)
        self.goals = _chosen(self.tasks, arguments.only)
        self.folder, self.ledger = Folder(self.out, own), Ledger(self.out)
        self.done = Done(self.ledger)
        self.ran: set[str] = set()

    def left(self) -> list[Task]:
        """What is still to be tried, by this run or a later one, in order: not what was given up, nor what hangs on that."""
        needed, hopeless = self.done.needed(self.goals), set[str]()
        for task in self.tasks:
            if task.name in needed and (not self.ledger.is_open(task, self.seconds) or any(t.name in hopeless for t in task.after)):
                hopeless.add(task.name)
        return [task for task in self.tasks if task.name in needed - hopeless]

    def run(self, began: float, asked: Callable[[], bool]) -> int:
        """One slice, which counts from `began` on the monotonic clock; the exit status."""
        end = began + self.seconds - min(MARGIN, 0.1 * self.seconds)
        restored = self.folder.restore(self.tasks)
        self._settle()
        if restored:
            self.folder.say(f"{restored} files taken from {self.out}")
        while not asked() and (task := self._next(end - time.monotonic())):
            self._one(task, end, asked)
            self.write()
        return self._close()

    def _settle(self) -> None:
        """Record and keep what an earlier run, or the workflow, finished without being able to say so here."""
        for task in self.tasks:
            if self.done(task):
                if self.ledger.entry(task).get("status") == "cut off":
                    self.ledger.end(task, "done", 0.0)
                if (place := self.folder.place(task)) and not place.is_file():
                    self.folder.keep(task)

    def _next(self, remaining: float) -> Task | None:
        """The first task that can be run now and fits the time that remains; the first of a slice is tried in any case."""
        for task in self.left():
            ready = task.name not in self.ran and all(self.done(other) for other in task.after)
            if ready and remaining > 0 and (not self.ran or self._least(task) <= remaining):
                return task
        return None

    def _least(self, task: Task) -> float:
        """Seconds that are worth beginning with: all of a task, or the part after which it can go on."""
        whole = self.expected(task) * self.ledger.pace(task.kind, self._device_of(task))
        if task.kind == "evaluate":
            return whole / int(task.spec["seeds"])
        return min(whole, FIRST.get(task.kind, whole))

    def expected(self, task: Task) -> float:
        """Seconds, by config/rates.yaml; those of importing are paid once a run."""
        if task.kind in COMMANDS:
            return SECONDS[task.kind]
        assert task.study is not None
        on = rates_of("cpu" if self._device_of(task).kind == "cpu" else "h100")
        return max(0.1, costing.cost(task.study, on, *task.job).seconds - on.values["start"])

    def _device_of(self, task: Task) -> Device:
        """This study's device, or the processor for a study of choices that asks for it."""
        on_processor = task.on_processor and self.device.kind != "cpu"
        return Device("cpu", platform.processor() or platform.machine(), self.device.torch) if on_processor else self.device

    def _one(self, task: Task, end: float, asked: Callable[[], bool]) -> None:
        limit, before = end - time.monotonic(), work.mark(task)
        first = not self.ran
        self.ran.add(task.name)
        self.ledger.begin(task, self._device_of(task), self.expected(task), before)
        log = self.logs / f"{task.name.replace(' ', '-').replace(':', '')}.log"
        texts = log.with_suffix(".out") if task.kind in COMMANDS and task.kind != "choices" else None
        outcome = running.run(self._work(task), log, limit, asked, texts)
        status, message = outcome.status, outcome.message
        if texts and (status == "done" or (task.kind == "tests" and outcome.code == 1)):  # tests that fail are a result too
            text = texts.read_text(errors="replace")
            files.write(task.output, text)
            status, message = "done", text.strip().splitlines()[-1] if task.kind == "tests" and text.strip() else ""
        nothing = status == "stopped" and not asked() and work.mark(task) == before
        too_short = self.seconds if nothing and (first or limit > WHOLE * self.seconds) else 0.0
        self.ledger.end(task, status, outcome.seconds, message, too_short)
        self.done.forget()
        self.folder.say(f"{status:<8}{outcome.seconds:8.1f} s  {task.name}" + (f": {message}" if message else ""))
        if status == "failed":
            self.folder.quote(log)
        if note := self.folder.keep(task) if status == "done" or task.kind == "choices" else "":
            self.folder.say(note)

    def _work(self, task: Task) -> Callable[[], None]:
        """What the child does; where a forked one cannot use the device, it becomes a new process that runs this one task."""
        if task.study is None or self.device.forks:
            return work.work_of(task, self.results, self._environment())
        given = [value for value in sys.argv[1:] if value != "--list"]
        return lambda: os.execv(sys.executable, [sys.executable, "-m", "esp_core.measure", *given, "--task", task.name])

    def alone(self, name: str) -> None:
        """Run one task in this very process."""
        running.leave_when_asked()
        task = next(task for task in self.tasks if task.name == name)
        work.work_of(task, self.results, self._environment())()

    def _environment(self) -> dict[str, str]:
        """Where benchmarks find real images: where the first official dataset of the study lies."""
        data = os.environ.get("ESP_MIRROR", "")
        places = [Path(data), self.results / "downloads" / "cifar10"] if data else [self.results / "downloads" / "cifar10"]
        found = next((place.resolve() for place in places if (place / "cifar-10-batches-bin").is_dir()), None)
        return {"ESP_REAL_DATA": str(found)} if found else {}

    def write(self) -> None:
        """measured.csv and summary.md."""
        files.write(self.out / "measured.csv", self.ledger.table([task.name for task in self.tasks]))
        files.write(self.out / "summary.md", reporting.summary(self.study, self.out))

    def _close(self) -> int:
        """Write the tables, say what is left, and give the exit status."""
        self.write()
        left, needed = self.left(), self.done.needed(self.goals)
        given_up = [task for task in self.tasks if task.name in needed and not self.ledger.is_open(task, self.seconds)]
        for task in given_up:
            self.folder.say(f"given up: {task.name}, {self.ledger.state(task, self.seconds)}")
        hanging = len(needed) - len(left) - len(given_up)
        more = f", {hanging} hang on what was given up" if hanging else ""
        self.folder.say(f"{len(left)} tasks left{more}; {self.out}")
        return STOPPED if left else 0

    def listed(self) -> list[str]:
        """A line a task, in order."""
        needed = self.done.needed(self.goals)
        lines = []
        for task in self.tasks:
            seconds = self.expected(task) * self.ledger.pace(task.kind, self._device_of(task))
            state = self.ledger.state(task, self.seconds) if task.name in needed else "done" if self.done(task) else "not needed"
            lines.append(f"{task.name:<44} {seconds:8.0f} s  {state}")
        return lines


def _chosen(tasks: list[Task], only: list[str] | None) -> list[Task]:
    """The tasks whose names begin with one of the words given, by default all whose output is worth having for itself.

    Raises UserError for a word that no name begins with.
    """
    if only is None:
        return [task for task in tasks if task.kind in (*COMMANDS, *CARRIED)]
    chosen = {name: [task for task in tasks if f"{task.name} ".startswith(f"{name} ")] for name in only}
    if wrong := [name for name, found in chosen.items() if not found]:
        raise UserError(f"--only {wrong[0]}: no task's name begins so; --list shows them")
    return [task for task in tasks if any(task in found for found in chosen.values())]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m esp_core.measure", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "measure.yaml", help="the study; config/measure.yaml by default")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the folder of results, as Snakemake's; results by default")
    parser.add_argument("--seconds", type=float, default=500.0, help="a slice: the command ends before; 500 by default")
    parser.add_argument("--out", type=Path, help="the small folder to take home; results/<study>/measured by default")
    parser.add_argument(
        "--data", type=Path, help="a folder with the official files or archives; by default ESP_MIRROR or the official hosts"
    )
    parser.add_argument(
        "--choices", default=ROOT / "config" / "choices.yaml", help="a study of choices, or none; config/choices.yaml by default"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="tasks whose names begin so, such as benchmark, and what they need")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--list", action="store_true", help="print the tasks in their order, with seconds expected, and run nothing")
    page = ROOT / "docs" / "measured.md"
    parser.add_argument(
        "--report", nargs="?", type=Path, const=page, metavar="PAGE", help="write the tables into docs/measured.md, run nothing"
    )
    return parser


@command
def main() -> None:
    began, arguments = time.monotonic(), _parser().parse_args()
    if arguments.seconds <= 0:
        raise UserError(f"--seconds {arguments.seconds:g}: give a positive number")
    if arguments.data is not None:
        if not arguments.data.is_dir():
            raise UserError(f"--data {arguments.data}: no such folder")
        os.environ["ESP_MIRROR"] = str(arguments.data.resolve())
    study = load(arguments.config)
    if arguments.report:
        out = arguments.out or arguments.results / study.name / "measured"
        files.write(arguments.report, reporting.page(study, out, arguments.report.read_text(encoding="utf-8")))
        return
    if arguments.task:
        Measurement(study, Device("", "", ""), arguments).alone(arguments.task)
        return
    if arguments.list:
        print("\n".join(Measurement(study, work.device(study.config["device"]), arguments).listed()))
        return
    asked = Asked()
    with running.alone(arguments.out or arguments.results / study.name / "measured"):
        work.load()
        status = Measurement(study, work.device(study.config["device"]), arguments).run(began, lambda: asked.now)
    sys.exit(status)


if __name__ == "__main__":
    main()

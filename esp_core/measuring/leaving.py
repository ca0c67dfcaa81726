"""The small folder that a measurement leaves, and from which it goes on elsewhere: a mirror of the results that are worth carrying.

    state.json  measured.csv  summary.md  log.txt     what became of every task
    evaluated/ distilled/ figures/                     as in results/<study>/, condensed sets under 10 MB
    texts/                                             what the tests and benchmarks printed; choices-*.csv

On a machine where the results are missing they are taken from here, so that a set which is made is never distilled again. Experts are too
large for it: where a set that is still to be made needs them, they are trained again.
"""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from esp_core import files
from esp_core.measuring.tasks import Task

LIMIT = 10_000_000  # bytes of a condensed set that is kept
CARRIED = ("distill", "evaluate", "footprint", "choices")


class Folder:
    """`out`, which mirrors `own`, the results of one study."""

    def __init__(self, out: Path, own: Path):
        self.out, self.own = out, own

    def place(self, task: Task) -> Path | None:
        """Where the task's output is kept; None for one that is not."""
        if task.kind not in CARRIED:
            return None
        return self.out / task.output.name if task.kind == "choices" else self.out / task.output.relative_to(self.own)

    def keep(self, task: Task) -> str:
        """Copy the output of `task`; says so where it is too large."""
        place = self.place(task)
        if place is None or not task.output.is_file():
            return ""
        if (size := task.output.stat().st_size) > LIMIT:
            return f"not kept, {size / 1e6:.0f} MB: {task.output}"
        _copy(task.output, place)
        return ""

    def restore(self, tasks: Iterable[Task]) -> int:
        """Copy what is kept to where the results lack it; the number of files."""
        pairs = [(place, task.output) for task in tasks if (place := self.place(task)) and place.is_file() and not task.output.exists()]
        for place, output in pairs:
            _copy(place, output)
        return len(pairs)

    def say(self, line: str) -> None:
        """A line of the log, printed too."""
        print(line, flush=True)
        with (self.out / "log.txt").open("a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} {line}\n")

    def quote(self, log: Path, lines: int = 20) -> None:
        """The end of a failed task's log, into ours."""
        if log.is_file():
            with (self.out / "log.txt").open("a") as file:
                file.writelines(f"    {line}\n" for line in log.read_text(errors="replace").splitlines()[-lines:])


def _copy(source: Path, target: Path) -> None:
    with files.replacing(target) as temporary:
        shutil.copyfile(source, temporary)

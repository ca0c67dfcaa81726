"""What became of every task: `state.json`, and from it `measured.csv`, a row a task.

A task is known by its key, a digest of all that it depends on: where the key has changed, nothing recorded about it counts. One that
failed is tried once more, by a later run; one that ended with the whole process, thrice without getting further, is left alone too; one
that a slice of the time given was too short for waits for a longer slice.
"""

import csv
import io
import json
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from esp_core import files
from esp_core.errors import UserError
from esp_core.measuring.tasks import Device, Task

COLUMNS = "kind,name,status,seconds,device,torch,date,message".split(",")
TRIES, DEATHS = 2, 3
LONGER = 1.2  # times the slice that was too short

Entry = dict[str, Any]


class Ledger:
    """The entries of `folder`. Raises UserError where its state.json is damaged."""

    def __init__(self, folder: Path):
        self.path = folder / "state.json"
        try:
            self.entries: dict[str, Entry] = json.loads(self.path.read_text()) if self.path.is_file() else {}
        except ValueError as error:
            raise UserError(f"{self.path}: damaged ({error}); delete it: what is done is found again by the files") from None
        for entry in self.entries.values():  # the process itself ended while this task ran
            if entry["status"] == "running":
                entry["status"] = "cut off"

    def entry(self, task: Task) -> Entry:
        """What is recorded about the task as it is now; empty where nothing is."""
        found = self.entries.get(task.name, {})
        return found if found.get("key") == task.key else {}

    def is_open(self, task: Task, seconds: float) -> bool:
        """Whether a run with slices of `seconds` shall still try the task."""
        entry = self.entry(task)
        too_short = seconds < LONGER * entry.get("too_short", 0.0)
        return entry.get("failures", 0) < TRIES and entry.get("deaths", 0) < DEATHS and not too_short

    def state(self, task: Task, seconds: float) -> str:
        """In words, for one that is not done."""
        entry = self.entry(task)
        if entry.get("failures", 0):
            return f"failed {'twice' if entry['failures'] >= TRIES else 'once'}: {entry['message']}"
        if entry.get("deaths", 0) >= DEATHS:
            return "left alone: the whole process ended with it three times"
        if not self.is_open(task, seconds):
            return f"does not fit {entry['too_short']:g} s at once: give more with --seconds"
        return "begun" if entry else "to do"

    def begin(self, task: Task, device: Device, expected: float, mark: str) -> None:
        """`expected` seconds by the rates; `mark` tells whether the task has got further since."""
        entry = self.entry(task)
        stuck = entry.get("status") == "cut off" and entry.get("mark") == mark
        deaths = entry.get("deaths", 0) + 1 if stuck else 0
        fresh = {"kind": task.kind, "key": task.key, "seconds": 0.0, "failures": 0, "message": ""}
        now = {"status": "running", "expected": expected, "mark": mark, "deaths": deaths, "device": device.name, "torch": device.torch}
        self.entries[task.name] = {**fresh, **entry, **now, "date": _today()}
        self.save()

    def end(self, task: Task, status: str, seconds: float, message: str = "", too_short: float = 0.0) -> None:
        """`status`: done, failed, or stopped, by the end of the slice; `too_short`: the slice, where nothing came of all of it."""
        entry = self.entries[task.name]
        changes = {"status": status, "seconds": round(entry["seconds"] + seconds, 2), "message": message, "date": _today()}
        failures = {"failures": entry["failures"] + 1} if status == "failed" else {}
        entry.update(changes | failures | ({"too_short": too_short} if too_short else {}))
        if status == "done":
            entry.update(failures=0, deaths=0)
        self.save()

    def pace(self, kind: str, device: Device) -> float:
        """How many times as long as expected tasks of this kind took on this device; 1 before any has run."""
        done = [e for e in self.entries.values() if e["status"] == "done" and e["kind"] == kind and e["device"] == device.name]
        return median([e["seconds"] / e["expected"] for e in done if e["expected"]] or [1.0])

    def save(self) -> None:
        """Write state.json."""
        files.write(self.path, json.dumps(self.entries, indent=1, sort_keys=True) + "\n")

    def table(self, names: Iterable[str]) -> str:
        """CSV: the tasks `names` that there is something to say about, in that order, then the others."""
        known = [name for name in names if name in self.entries]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for name in [*known, *sorted(self.entries.keys() - set(known))]:
            writer.writerow({**self.entries[name], "name": name})
        return text.getvalue()


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())

"""Whether a task's output stands: it is there, and says that it was made by this spec and this code.

An output of another spec or code is made again in its place, as Snakemake would. One without a record of ours, made by the workflow or
by hand, counts where what it was made from is done and no newer than it is.
"""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from esp_core.errors import UserError
from esp_core.measuring.ledger import Ledger
from esp_core.measuring.tasks import Task
from esp_core.provenance import canonical, digest


class Done:
    """The answer for every task, looked up once and again after `forget`."""

    def __init__(self, ledger: Ledger):
        self.ledger = ledger
        self._known: dict[str, bool] = {}

    def __call__(self, task: Task) -> bool:
        if task.name not in self._known:
            self._known[task.name] = self._stands(task)
        return self._known[task.name]

    def forget(self) -> None:
        """Look again: a task has run."""
        self._known.clear()

    def needed(self, tasks: Iterable[Task]) -> set[str]:
        """The names of the tasks to do: those that are asked for and not done, and what they need that is not done either."""
        names: set[str] = set()
        todo = list(tasks)
        while todo:
            task = todo.pop()
            if task.name not in names and not self(task):
                names.add(task.name)
                todo += task.after
        return names

    def _stands(self, task: Task) -> bool:
        if not task.output.is_file() or not agrees(task):
            return False
        if self.ledger.entry(task).get("status") == "done":
            return True
        if task.study is None or task.kind == "footprint":  # these record nothing that could be compared
            return False
        made = task.output.stat().st_mtime_ns
        return all(self(other) and (task.kind == "prepare" or other.output.stat().st_mtime_ns <= made) for other in task.after)


def agrees(task: Task) -> bool:
    """Whether a study's output records the spec and code that its job has now; True for what records none."""
    try:
        return _AGREES[task.kind](task) if task.kind in _AGREES else True
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return False


def _download(task: Task) -> bool:
    facts = json.loads(task.output.read_text())
    return facts["kind"] == task.spec["kind"] and (task.output.parent / facts["folder"]).is_dir()


def _prepare(task: Task) -> bool:
    import h5py

    with h5py.File(task.output) as file:
        return bool(file.attrs["spec"] == canonical(task.spec) and file.attrs["code"] == task.code)


def _experts(task: Task) -> bool:
    from esp_core.trajectories.shard import Shard

    header = Shard(task.output).header
    return bool(header["spec"] == task.spec and header["code"] == task.code)


def _manifest(task: Task) -> bool:
    """Its own code is not recorded; those of its shards are, beside their digests."""
    from esp_core.trajectories import manifest
    from esp_core.trajectories.shard import Shard

    content = manifest.load(task.output)
    shards = all(Shard(task.output.with_name(entry["file"])).digest == entry["digest"] for entry in content["shards"])
    return bool(content["spec"] == task.spec and shards)


def _distill(task: Task) -> bool:
    header = header_of(task.output)
    return bool(header["spec"] == task.spec and header["code"] == task.code)


def header_of(path: Path) -> dict[str, Any]:
    """What a condensed set says about itself."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return dict(json.loads((file.metadata() or {})["header"]))
    except SafetensorError as error:
        raise UserError(f"{path}: damaged ({error}); make it again") from None


def _evaluate(task: Task) -> bool:
    with task.output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = {(digest(canonical(task.spec)), task.code)}
    return len(rows) == task.spec["seeds"] and {(row["spec"], row["code"]) for row in rows} == wanted


_AGREES = {
    "download": _download,
    "prepare": _prepare,
    "experts": _experts,
    "manifest": _manifest,
    "distill": _distill,
    "evaluate": _evaluate,
}

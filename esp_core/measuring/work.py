"""What a task does, in its own process: the stages as the workflow's commands run them, or a command."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from esp_core import files
from esp_core.errors import UserError
from esp_core.measuring import running
from esp_core.measuring.tasks import Device, Task
from esp_core.provenance import ROOT, canonical, digest

CHECKPOINT_SECONDS = 10.0  # what a distillation loses at most where a slice ends


def load() -> None:
    """Import what the stages compute with, before the first child is forked. Nothing of this may touch the device."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # or asking whether there is one would touch it
    import torch._dynamo

    from esp_core import condensed, datasets, distill, distillation, evaluate, experts, footprint, prepare, training
    from esp_core.trajectories import producing, reader

    modules = (
        condensed,
        datasets,
        distill,
        distillation,
        evaluate,
        experts,
        footprint,
        prepare,
        training,
        producing,
        reader,
        torch._dynamo,
    )
    assert all(modules)


def found(asked: str) -> dict[str, str]:
    """The device `asked` for: its kind, its name, torch's version. Shows by a sum that it works in this process."""
    import torch

    from esp_core import devices

    picked = devices.pick(asked)
    if float(torch.ones(2, device=picked).sum()) != 2:
        raise UserError(f"device: {picked} cannot add one and one")
    said = devices.describe(picked)
    return {"kind": picked.type, "name": str(said["device"]).partition(": ")[2] or picked.type, "torch": str(said["torch"])}


def device(asked: str) -> Device:
    """The device `asked` for, looked at in another process: a child that is forked later could not use one that this process has touched.

    Raises UserError where it is not there or does not work.
    """
    try:
        return Device(**running.asked_in_child(lambda: found(asked)))
    except UserError:  # where it fails in a new process too, this one says why
        program = f"import json; from esp_core.measuring import work; print(json.dumps(work.found({asked!r})))"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        if done.returncode:
            raise
        return Device(**json.loads(done.stdout.splitlines()[-1]), forks=False)


def work_of(task: Task, results: Path, environment: dict[str, str]) -> Callable[[], None]:
    """The function that does `task`; `environment` is added to that of a command."""
    if task.study is None:
        return lambda: _command(task, results, environment)
    return lambda: _STAGES[task.kind](task)


def mark(task: Task) -> str:
    """What changes where an interrupted task got further: the size of its .part, and the content of a small one."""
    part = task.output if task.kind == "choices" else part_of(task)
    if not part.is_file():
        return ""
    size = part.stat().st_size
    return f"{size} {digest(part.read_bytes()) if size < 1 << 26 else part.stat().st_mtime_ns}"


def part_of(task: Task) -> Path:
    """Where an interrupted task leaves what it has."""
    return task.output.with_name(task.output.name + ".part")


def rows_kept(task: Task) -> int:
    """Seeds of an interrupted evaluation that need no training."""
    return len(_Rows(part_of(task), _identity(task)).rows) if task.kind == "evaluate" else 0


def _prepare(task: Task) -> None:
    from esp_core import prepare

    prepare.prepare(task.spec, task.output, task.after[0].output if task.after else None)


def _download(task: Task) -> None:
    from esp_core import download

    download.download(task.spec, task.output)


def _experts(task: Task) -> None:
    from esp_core import experts

    experts.train(argparse.Namespace(spec=task.spec, data=_data(task), out=task.output))


def _manifest(task: Task) -> None:
    from esp_core import experts

    experts.manifest(argparse.Namespace(spec=task.spec, shards=[shard.output for shard in task.after], out=task.output))


def _distill(task: Task) -> None:
    from esp_core import distill

    distill.CHECKPOINT_SECONDS = CHECKPOINT_SECONDS
    manifest = next((other.output for other in task.after if other.kind == "manifest"), None)
    distill.run(task.spec, _data(task), manifest, task.output, task.code)


def _evaluate(task: Task) -> None:
    from esp_core import evaluate

    condensed = next((other.output for other in task.after if other.kind == "distill"), None)
    rows = _Rows(part_of(task), _identity(task))
    with rows.kept(evaluate):
        evaluate.write(evaluate.run(task.spec, _data(task), condensed, task.code), task.output)
    rows.path.unlink(missing_ok=True)


def _footprint(task: Task) -> None:
    from esp_core import datasets, footprint

    data = datasets.load(_data(task))
    channels, size, _ = data.shape
    footprint.write(footprint.run(task.spec, (channels, size, len(data.classes))), task.output)


_STAGES: dict[str, Callable[[Task], None]] = {
    "download": _download,
    "prepare": _prepare,
    "experts": _experts,
    "manifest": _manifest,
    "distill": _distill,
    "evaluate": _evaluate,
    "footprint": _footprint,
}


def _data(task: Task) -> Path:
    return next(other.output for other in task.after if other.kind == "prepare")


def _identity(task: Task) -> str:
    """Of an evaluation: its key, and the very set that it is of."""
    sets = [digest(other.output.read_bytes()) for other in task.after if other.kind == "distill" and other.output.is_file()]
    return digest(canonical([task.key, *sets]))


class _Rows:
    """The seeds that an evaluation has been through, one JSON line each, beside its output. Another task's, or a torn line, is dropped."""

    def __init__(self, path: Path, identity: str):
        self.path, self.identity, self.rows = path, identity, dict[int, dict[str, Any]]()
        for line in path.read_text().splitlines() if path.is_file() else []:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if entry["identity"] == identity:
                self.rows[entry["seed"]] = entry["row"]

    @contextmanager
    def kept(self, evaluate: Any) -> Iterator[None]:
        """While it is open, the stage `evaluate` takes a seed's result from here, or puts it here."""
        train = evaluate._one

        def one(*arguments: Any) -> dict[str, Any]:
            seed = arguments[-1]
            if seed not in self.rows:
                self.rows[seed] = train(*arguments)
                self.save()
            return self.rows[seed]

        evaluate._one = one
        try:
            yield
        finally:
            evaluate._one = train

    def save(self) -> None:
        """Write the file, whole or not at all."""
        lines = [json.dumps({"identity": self.identity, "seed": seed, "row": row}) for seed, row in self.rows.items()]
        files.write(self.path, "\n".join(lines) + "\n")


def _command(task: Task, results: Path, environment: dict[str, str]) -> None:
    """Become the task's command. Modules are found in this repository, wherever it runs."""
    folder = ROOT
    if task.kind == "choices":  # it reads results/ where it runs
        if results.name != "results":
            raise UserError(f"--results {results}: the search of choices needs a folder called results")
        folder = results.resolve().parent
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    os.chdir(folder)
    os.execve(sys.executable, [sys.executable, "-m", *task.arguments], {**os.environ, **environment, "PYTHONPATH": path})

"""What a task does, in its own process: the stages as the workflow's commands run them, or a command."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from esp_core.errors import UserError
from esp_core.measuring import running
from esp_core.measuring.tasks import Device, Task
from esp_core.provenance import ROOT, digest

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


def _prepare(task: Task) -> None:
    from esp_core import prepare

    prepare.prepare(task.spec, task.output, task.after[0].output if task.after else None)


def _download(task: Task) -> None:
    from esp_core import download

    download.download(task.spec, task.output)


def _experts(task: Task) -> None:
    from esp_core import experts

    experts.train(argparse.Namespace(spec=task.spec, trial=None, data=_data(task), out=task.output))


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
    evaluate.finish(task.spec, _data(task), condensed, task.output, task.code)


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

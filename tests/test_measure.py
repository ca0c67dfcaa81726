"""The unattended measurement: cut off anywhere it leaves the same folder, keeps to its time, and goes on past what fails."""

import argparse
import csv
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.numpy import load_file

from esp_core import distillation, measure, methods
from esp_core.errors import UserError
from esp_core.measuring import agreement, reporting, running, work
from esp_core.measuring.done import Done, header_of
from esp_core.measuring.ledger import Ledger
from esp_core.measuring.tasks import STAGES, Device, Task, ordered
from esp_core.study import Study, load

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    "study": "tiny",
    "device": "cpu",
    "datasets": {"digits": {"kind": "npz", "ipc": [1], "options": {"path": "the fixture `images` sets it"}}},
    "distill_network": {"name": "convnet3", "width": 4, "depth": 3},
    "experts": {"count": 2, "shard": 1, "keep": 3, "epochs": 2, "lr": 0.05},
    "methods": {
        "dm": {"iterations": 3, "real_batch": 8},
        "esp": {
            "iterations": 25,
            "real_batch": 8,
            "teacher": {"length": 1, "steps": 2, "start_max": 1},
            "parametrisation": {"decoders": 2, "code_channels": 1, "width": 2},
        },
    },
    "evaluation": {"seeds": 2, "epochs": 20},
}
CPU = Device("cpu", "a processor", "2.0")
GPU = Device("cuda", "NVIDIA X100", "2.0")
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}
OPTIONS = ["--config", "tiny.yaml", "--choices", "none"]
OUT, ESP = Path("results/tiny/measured"), "digits/ipc-1/esp"
# The command as it is, where pandas, matplotlib and Snakemake cannot be imported.
WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(("pandas", "matplotlib", "snakemake")))
from esp_core import measure
measure.main()
"""


def start(folder):
    """The command in a child of its own, every step of a distillation kept; its number."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    if child := os.fork():
        return child
    code = 1
    try:
        os.chdir(folder)
        sys.argv = ["measure", *OPTIONS, "--only", "evaluate"]
        work.CHECKPOINT_SECONDS = 0.0
        measure.main()
    except SystemExit as error:
        code = error.code
    finally:
        os._exit(code)


def kill_when(folder, reached):
    """SIGKILL the command, and not its children, as soon as `reached()`."""
    process, end = start(folder), time.monotonic() + 60
    while not reached():
        assert time.monotonic() < end and not os.waitpid(process, os.WNOHANG)[0]
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def step_of(part):
    try:
        with safe_open(part, "numpy") as file:
            return int(file.get_tensor("step"))
    except OSError:
        return -1


@pytest.fixture(scope="module", autouse=True)
def images(tmp_path_factory):
    """A file of 120 and 30 images of noise, each class with a bright row of its own."""
    path, random = tmp_path_factory.mktemp("images") / "digits.npz", np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 120), ("test", 30)):
        labels = np.arange(count) % 3
        values = random.integers(0, 120, (count, 1, 16, 16), dtype=np.uint8)
        values[np.arange(count), 0, 4 * labels] += 130
        arrays |= {f"{split}_images": values, f"{split}_labels": labels}
    np.savez(path, **arrays)
    TINY["datasets"]["digits"]["options"]["path"] = str(path)
    work.load()  # once, for all children


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder in which the command ran to its end, undisturbed; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    command = [sys.executable, "-c", WITHOUT, *OPTIONS, "--only", "evaluate"]
    done = subprocess.run(command, cwd=folder, env=ENV, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def tiny(tmp_path):
    """A measurement of the tiny study in a folder of its own: `tiny(seconds=…, **changes to the config)`."""

    def make(seconds=60.0, only=("evaluate",), results=tmp_path / "results", **changes):
        arguments = argparse.Namespace(results=results, out=None, seconds=seconds, only=only, choices=None)
        made = measure.Measurement(Study({**TINY, **changes}), CPU, arguments)
        made.out.mkdir(parents=True, exist_ok=True)
        return made

    return make


def run(measurement):
    return measurement.run(time.monotonic(), lambda: False)


def rows(path, *without):
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in without} for row in csv.DictReader(file)]


def test_killed_twice_it_leaves_the_same_folder_as_undisturbed(finished, tmp_path, capfd):
    own = tmp_path / "results" / "tiny"
    part = own / "distilled" / f"{ESP}.safetensors.part"
    kill_when(tmp_path, lambda: step_of(part) > 3)
    assert not (own / "distilled" / f"{ESP}.safetensors").exists()
    seeds = own / "evaluated" / ESP / "convnet3.csv.part"
    kill_when(tmp_path, seeds.exists)
    assert len(seeds.read_text().splitlines()) == 1
    assert capfd.readouterr().out.count("resuming at step") == 1
    assert os.waitpid(start(tmp_path), 0)[1] == 0
    one, other = finished / OUT, tmp_path / OUT
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    sets, tables = [n for n in names if n.suffix == ".safetensors"], [n for n in names if n.suffix == ".csv" and n.parent != Path()]
    assert len(sets) == len(tables) == 2
    for name in sets:
        whole, cut = load_file(one / name), load_file(other / name)
        assert whole.keys() == cut.keys() and all((whole[key] == cut[key]).all() for key in whole)
        headers = [{k: v for k, v in header_of(x / name).items() if k not in ("seconds", "peak_memory_bytes")} for x in (one, other)]
        assert headers[0] == headers[1]
    for name in tables:
        found = rows(one / name, "seconds", "peak_memory_bytes")
        assert len(found) == 2 and found == rows(other / name, "seconds", "peak_memory_bytes")
    assert rows(one / "measured.csv", "seconds", "date") == rows(other / "measured.csv", "seconds", "date")
    assert {row["status"] for row in rows(one / "measured.csv")} == {"done"}
    assert (one / "summary.md").read_text() == (other / "summary.md").read_text()


def test_snakemake_accepts_what_it_left(finished):
    shutil.copytree(ROOT / "config", finished / "config")
    options = ["--snakefile", ROOT / "workflow/Snakefile", "--directory", finished, "--configfile", finished / "tiny.yaml"]
    profile = ["--workflow-profile", ROOT / "workflow/profiles/demo"]
    command = [sys.executable, "-m", "snakemake", "--dry-run", *options, *profile]
    done = subprocess.run(command, cwd=ROOT, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    drawn = {"tabulate", "judge_claims", "draw_grid", "write_settings"}
    assert set(re.findall(r"^(\w+) +\d+$", done.stdout, flags=re.MULTILINE)) == drawn | {"try_networks_and_sets", "all", "total"}


def test_slices_end_in_time_and_go_on_where_the_last_one_stopped(tiny, monkeypatch):
    step = distillation.Distillation._take_step
    monkeypatch.setattr(distillation.Distillation, "_take_step", lambda job: (time.sleep(0.1), step(job))[1])
    monkeypatch.setattr(work, "CHECKPOINT_SECONDS", 0.0)
    methods = {"dm": {"iterations": 80, "real_batch": 8, "augment": "none"}}
    steps, statuses = [], []
    for _ in range(12):
        slice_ = tiny(seconds=4.0, methods=methods)
        begun = time.monotonic()
        statuses.append(run(slice_))
        assert time.monotonic() - begun < 4.0 + 2  # two seconds for a busy machine
        if statuses[-1] == 0:
            break
        steps.append(step_of(slice_.results / "tiny/distilled/digits/ipc-1/dm.safetensors.part"))
    begun = [step for step in steps if step >= 0]
    assert statuses == [running.STOPPED] * (len(statuses) - 1) + [0]
    assert len(begun) > 1 and begun == sorted(set(begun)), steps


def test_what_does_not_fit_a_slice_is_named_and_waits_for_a_longer_one(tiny):
    short = {"evaluation": {"seeds": 1, "epochs": 100_000}, "methods": {"random": {}}}
    while (status := run(measurement := tiny(seconds=1.5, **short))) == running.STOPPED:
        assert len(measurement.ran) > 0
    assert status == 0
    name = "evaluate digits 1 random convnet3"
    assert measurement.ledger.entries[name]["status"] == "stopped"
    assert f"given up: {name}, does not fit 1.5 s at once" in (measurement.out / "log.txt").read_text()
    assert [task.name for task in tiny(seconds=15, **short).left()] == [name]


def test_a_failing_task_is_recorded_skipped_and_tried_once_more(tiny):
    wide = {"base": "esp", "teacher": {"kind": "random"}, "objectives": {"projection": None}, "parametrisation": {"width": 999}}
    methods = {"wide": wide, "random": {}}
    first = tiny(methods={**methods, "esp": TINY["methods"]["esp"]}, only=("evaluate digits 1 wide", "evaluate digits 1 random"))
    assert run(first) == running.STOPPED
    table = {row["name"]: row for row in rows(first.out / "measured.csv")}
    assert "evaluate digits 1 wide convnet3" not in table and table["evaluate digits 1 random convnet3"]["status"] == "done"
    failed = table["distill digits 1 wide"]
    assert failed["status"] == "failed" and "the smallest IPC for this design" in failed["message"]
    assert failed["message"] in (first.out / "summary.md").read_text()
    again = tiny(methods={**methods, "esp": TINY["methods"]["esp"]}, only=("evaluate digits 1 wide",))
    assert run(again) == 0 and again.ran == {"distill digits 1 wide"}
    third = tiny(methods={**methods, "esp": TINY["methods"]["esp"]}, only=("evaluate digits 1 wide",))
    assert run(third) == 0 and not third.ran
    assert "given up: distill digits 1 wide, failed twice" in (third.out / "log.txt").read_text()
    methods["wide"] = {**wide, "parametrisation": {"decoders": 2, "code_channels": 1, "width": 2}}
    mended = tiny(methods={**methods, "esp": TINY["methods"]["esp"]}, only=("distill digits 1 wide",))
    assert run(mended) == 0 and mended.ran == {"distill digits 1 wide"}


def test_elsewhere_it_goes_on_from_the_small_folder_alone(finished, tiny, tmp_path):
    shutil.copytree(finished / OUT, tmp_path / OUT)
    there = tiny(only=None)
    assert {task.kind for task in there.goals} == {"benchmark", "distill", "evaluate"}
    there = tiny()
    assert run(there) == 0 and not there.ran
    assert (tmp_path / "results/tiny/distilled" / f"{ESP}.safetensors").is_file()
    assert not (tmp_path / "results/tiny/experts").exists()
    assert {task.kind for task in tiny(only=None).left()} == {"benchmark"}


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, set()),
        ({"experts": {**TINY["experts"], "lr": 0.04}}, {"experts digits 0", "experts digits 1", "manifest digits", "esp"}),
        ({"experts": {**TINY["experts"], "count": 3}}, {"experts digits 2", "manifest digits", "esp"}),
        ({"evaluation": {"seeds": 3, "epochs": 20}}, {"evaluate digits 1 dm convnet3", "evaluate digits 1 esp convnet3"}),
        ({"methods": {**TINY["methods"], "dm": {"iterations": 4, "real_batch": 8}}}, {"dm"}),
    ],
)
def test_a_change_makes_again_what_hangs_on_it_and_nothing_else(finished, tiny, change, again):
    whole = {f"{stage} digits 1 {method}{end}" for method in again for stage, end in (("distill", ""), ("evaluate", " convnet3"))}
    wanted = {name for name in again if " " in name} | (whole if again & {"esp", "dm"} else set())
    wanted = {name for name in wanted if name.split()[0] not in ("distill", "evaluate") or name in again or name.split()[3] in again}
    assert {task.name for task in tiny(results=finished / "results", **change).left()} == wanted


def test_a_file_of_other_code_counts_no_more_and_one_of_the_workflow_does(finished, tmp_path):
    shutil.copytree(finished / "results", tmp_path / "results")
    study, out = Study(TINY), tmp_path / OUT
    (out / "state.json").unlink()  # as if the workflow had made them
    tasks = {task.name: task for task in ordered(study, CPU, tmp_path / "results", out)}
    goals = [task for task in tasks.values() if task.study]
    assert Done(Ledger(out)).needed(goals) == set()
    csv_file = tasks["evaluate digits 1 dm convnet3"].output
    code = rows(csv_file)[0]["code"]
    csv_file.write_text(csv_file.read_text().replace(code, "0" * 16))
    assert Done(Ledger(out)).needed(goals) == {"evaluate digits 1 dm convnet3"}
    os.utime(tasks["manifest digits"].output)  # newer than the set that was made from it
    stale = {"distill digits 1 esp", "evaluate digits 1 esp convnet3"}
    assert Done(Ledger(out)).needed(goals) == stale | {"evaluate digits 1 dm convnet3"}


def test_the_order_of_value():
    study, choices = load(ROOT / "config/measure.yaml"), ROOT / "config/choices.yaml"
    search = load(choices)
    assert ordered(study, GPU, Path("results"), Path("out"), search, choices)[-1].name == "choices of choices"  # it asks for a processor
    search.config["device"] = "auto"
    tasks = ordered(study, GPU, Path("results"), Path("out"), search, choices)
    names = [task.name for task in tasks]
    wanted = [
        "agreement on nvidia-x100",
        "tests on nvidia-x100",
        "benchmark experts on nvidia-x100",
        "benchmark steps on nvidia-x100",
        "benchmark steps-profile on nvidia-x100",
        "benchmark evaluation on nvidia-x100",
        "benchmark reading on nvidia-x100",
        "footprint figure7",
    ]
    wanted += ["experts cifar10 0", "experts cifar10 1", *(f"evaluate cifar10 {ipc} esp convnet3" for ipc in (1, 10, 50))]
    wanted += ["evaluate cifar10 1 esp resnet10", "evaluate cifar10 1 esp efficientnetv2s", "choices of choices"]
    wanted += ["experts cifar100 0", "evaluate cifar100 1 esp convnet3", "evaluate cifar100 50 esp convnet3"]
    assert [name for name in names if name in wanted] == wanted
    assert names.index("evaluate cifar10 1 kfs convnet3") < names.index("evaluate cifar10 10 esp convnet3")
    assert all(names.index(other.name) < names.index(task.name) for task in tasks for other in task.after)
    jobs = [" ".join(job) for job in study.jobs() if job[0] in STAGES]
    assert len(set(names)) == len(names) and sorted(task.name for task in tasks if task.study and ":" not in task.name) == sorted(jobs)
    assert not [task for task in ordered(study, CPU, Path("results"), Path("out")) if task.kind in ("agreement", "tests")]


def test_the_list_is_in_that_order_and_says_what_is_done(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished)
    monkeypatch.setattr(sys, "argv", ["measure", *OPTIONS, "--list"])
    measure.main()
    lines = [line.split(" s ", 1) for line in capsys.readouterr().out.splitlines() if " s " in line]
    states = {name.rsplit(maxsplit=1)[0]: state.strip() for name, state in lines}
    assert list(states)[:2] == ["prepare digits", next(name for name in states if name.startswith("benchmark experts"))]
    assert states["distill digits 1 esp"] == "done" and states[list(states)[1]] == "to do"


def test_a_command_leaves_its_text_tests_that_fail_are_a_result_and_a_broken_command_is_not(tiny, tmp_path):
    (tmp_path / "test_two.py").write_text("def test_one():\n    pass\n\n\ndef test_two():\n    assert 1 + 1 == 3\n")
    tests = ("pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_two.py"))
    measurement = tiny(seconds=600)
    commands = {"tests": tests, "benchmark steps": ("this",), "benchmark experts": ("no_such_module",)}
    measurement.tasks = [Task(name, name.split()[0], measurement.out / "texts" / f"{name}.txt", "key") for name in commands]
    for task in measurement.tasks:
        task.arguments = commands[task.name]
    measurement.goals = measurement.tasks
    assert run(measurement) == running.STOPPED
    found = {row["name"]: (row["status"], row["message"]) for row in rows(measurement.out / "measured.csv")}
    assert found["tests"][0] == "done" and found["tests"][1].startswith("1 failed, 1 passed in")
    assert found["benchmark steps"] == ("done", "")
    assert "Beautiful is better than ugly." in (measurement.out / "texts/benchmark steps.txt").read_text()
    assert found["benchmark experts"][0] == "failed" and found["benchmark experts"][1].endswith("No module named no_such_module")
    assert not (measurement.out / "texts/benchmark experts.txt").exists()


def test_asked_to_end_it_leaves_in_order_and_says_that_there_is_more(tmp_path):
    part = tmp_path / "results/tiny/distilled" / f"{ESP}.safetensors.part"
    process = start(tmp_path)
    while step_of(part) < 3:
        assert not os.waitpid(process, os.WNOHANG)[0]
        time.sleep(0.002)
    os.kill(process, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == running.STOPPED
    table = {row["name"]: row["status"] for row in rows(tmp_path / OUT / "measured.csv")}
    assert table["distill digits 1 esp"] == "stopped" and table["evaluate digits 1 dm convnet3"] == "done"
    assert step_of(part) >= 3 and not [path for path in part.parent.iterdir() if path.name.startswith(".")]


def test_a_child_that_is_killed_exits_or_hangs_is_told_apart(tmp_path):
    def printing():
        os.write(1, b"said\n")
        sys.exit(3)

    log = tmp_path / "logs" / "log"
    assert running.run(lambda: None, log, 10).status == "done"
    assert running.run(lambda: os.kill(os.getpid(), signal.SIGKILL), log, 10).message == "ended by signal 9; out of memory?"
    assert running.run(lambda: 1 / 0, log, 10).message == "ZeroDivisionError: division by zero"
    assert running.run(printing, log, 10).message == "said" and log.read_text() == "said\n"
    slow = running.run(lambda: time.sleep(30), log, 0.2)
    assert slow.status == "stopped" and slow.seconds < 5
    assert running.run(lambda: time.sleep(30), log, 30, lambda: True).status == "stopped"


def test_where_a_forked_child_cannot_use_the_device_a_new_process_does(tiny, tmp_path, monkeypatch):
    def refuse(_):
        raise UserError("Cannot re-initialize CUDA in forked subprocess")

    monkeypatch.setattr(running, "asked_in_child", refuse)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    measurement = tiny(only=("prepare",))
    measurement.device = work.device("cpu")
    assert measurement.device.kind == "cpu" and not measurement.device.forks
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["measure", *OPTIONS])
    assert run(measurement) == 0 and measurement.ran == {"prepare digits"}
    assert (tmp_path / "results/tiny/data/digits.h5").is_file()


def test_a_task_that_ends_with_the_whole_process_three_times_is_left_alone(tiny):
    for deaths in range(4):
        measurement = tiny(only=("prepare",))
        task = measurement.goals[0]
        assert measurement.ledger.is_open(task, 60) == (deaths < 4)
        measurement.ledger.begin(task, CPU, 1.0, "no further")
    assert not tiny(only=("prepare",)).ledger.is_open(task, 60)
    measurement.ledger.begin(task, CPU, 1.0, "further")
    assert tiny(only=("prepare",)).ledger.is_open(task, 60)


def test_two_at_once_are_refused_and_what_is_asked_for_must_be_there(tmp_path, monkeypatch, tiny):
    monkeypatch.setattr(running, "PATIENCE", 0.0)
    with running.alone(tmp_path), pytest.raises(UserError, match="another measurement is running"), running.alone(tmp_path):
        pass
    with pytest.raises(UserError, match="--only distil: no task's name begins so"):
        tiny(only=("distil",))


def test_the_page_sets_mean_and_deviation_beside_the_paper_and_says_what_is_not_measured(tmp_path):
    study, before = load(ROOT / "config/measure.yaml"), (ROOT / "docs/measured.md").read_text()
    empty = reporting.page(study, tmp_path, before)
    cells = [cell.strip() for line in empty.splitlines() if line.startswith("| ESP (ours) |") for cell in line.split("|")[2:-1]]
    assert cells[:6] == ["not measured", "63.0 ± 0.4", "not measured", "73.8 ± 0.2", "not measured", "76.1 ± 0.3"]
    assert set(cells[::2]) == {"not measured"} and len(cells) == 5 * 6  # four networks on CIFAR-10, one on CIFAR-100
    assert empty.startswith(before.partition(reporting.LINE)[0])
    values = [41.25, 43.5, 40.0]
    place = tmp_path / "evaluated/cifar10/ipc-1/esp/convnet3.csv"
    place.parent.mkdir(parents=True)
    place.write_text("accuracy,device,torch\n" + "".join(f"{value},cuda: X,2.0\n" for value in values))
    full = reporting.page(study, tmp_path, empty)
    wanted = f"| {statistics.mean(values):.1f} ± {statistics.stdev(values):.1f} (3) | 63.0 ± 0.4 |"
    assert full.count(wanted) == 1 and "cuda: X, torch 2.0. Methods that use experts had 10" in full
    assert full.count("not measured") == empty.count("not measured") - 2  # the cell, and the table's line
    with pytest.raises(UserError, match="lacks the line"):
        reporting.page(study, tmp_path, "a page")


@pytest.mark.parametrize("method", ["esp", "dm"])
def test_a_step_in_parts_agrees_with_one_graph_and_another_step_does_not(method, monkeypatch):
    monkeypatch.setattr(agreement, "SHAPE", (3, 32, 2))
    device = torch.device("cpu")
    difference, cosine = agreement.row(method, device)
    assert difference < 1e-3 and cosine > 0.9999
    recipe = methods.recipe(method, "cifar10", 1)
    one, other = (agreement.gradient({**recipe, "augment": name}, device, None) for name in ("none", "cutout"))
    assert float((one - other).norm() / one.norm()) > 0.01


def test_measured_csv_and_state_agree(finished):
    state = json.loads((finished / OUT / "state.json").read_text())
    table = rows(finished / OUT / "measured.csv")
    assert {row["name"] for row in table} == set(state) and len(table) == len(state) == 8
    assert all(float(row["seconds"]) > 0 and row["device"] and row["torch"] for row in table)

"""What a study will cost: counts against torch, sums against sums done by hand, and the whole against a run of the demo."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from snakemake.utils import available_cpu_count
from torch.utils.flop_counter import FlopCounterMode

from esp_core import networks, parametrisations
from esp_core.distillation import memory
from esp_core.parametrisations import Task
from esp_core.planning import costing, counting, plan, rates
from esp_core.runtime.errors import UserError
from esp_core.study import kinds, output_paths
from esp_core.study.config import Study, load

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "results" / "demo"
VALUES = {
    **{"operations": 1e9, "activations": 1e8, "step": 0.01, "call": 0.0, "augmented": 0.1, "speed_up": 1.0, "compiled": 4.0},
    **{"student": 0.03, "traced": 2.5},
    **{"compilation": 20.0, "start": 3.0, "first": 2.0, "light": 1.0, "memory": 1e8, "device_memory": 1e9},
}
SMALL = {
    "study": "small",
    "datasets": {"digits": {"ipc": [1], "options": {"size": 16}}},
    "distill_network": {"name": "convnet3", "width": 8},
    "experts": {"count": 5, "shard": 3, "epochs": 2, "batch": 700, "keep": 3},
    "methods": {
        "random": {},
        "dm": {"iterations": 4, "real_batch": 16},
        "esp_proj": {
            "iterations": 4,
            "parametrisation": {"kind": "latent", "decoders": 2, "code_channels": 1, "width": 2},
            "teacher": {"start_max": 0, "length": 1},
        },
        "full": {},
    },
    "evaluation": {"seeds": 3, "epochs": 10, "full": {"epochs": 1}},
}
DIGITS = counting.Shape(classes=10, channels=1, size=16, train=1400, test=397)
NET = counting.network(SMALL["distill_network"], DIGITS)  # a test below counts by hand
OPERATIONS, KEPT, PARAMETERS = NET.operations, NET.kept, NET.parameters
FORWARD = OPERATIONS / 1e9 + NET.activations / 1e8
PIXELS = 12 * 256 / 1e8  # taking an image out of the set, there and back


@pytest.fixture
def study():
    return Study(SMALL)


def on(**changes):
    return rates.Device("toy", {**VALUES, **changes})


def cost(study, *job, **changes):
    return costing.cost(study, on(**changes), *job)


IMAGES = counting.Shape(classes=10, channels=3, size=32, train=100, test=10)


@pytest.mark.parametrize(("size", "channels", "width", "depth"), [(16, 1, 8, 3), (64, 3, 128, 4)])
def test_convnet3_is_counted_as_by_hand(size, channels, width, depth):
    found = counting.network({"name": "convnet3", "width": width, "depth": depth}, replace(IMAGES, channels=channels, size=size))
    sides = [size // 2**i for i in range(depth + 1)]
    inputs = [channels] + [width] * (depth - 1)
    features = width * sides[-1] ** 2
    assert found.operations == sum(18 * i * width * side**2 for i, side in zip(inputs, sides[:-1], strict=True)) + 20 * features
    norms = 2 * width * depth  # means and deviations
    assert found.activations == sum(width * (3 * side**2 + (side // 2) ** 2) for side in sides[:-1]) + norms + 10
    assert found.parameters == sum(9 * i * width + 3 * width for i in inputs) + 10 * features + 10
    assert found.calls == 4 * depth + 1
    # Each convolution's input and output, each ReLU's output, and what the classifier sees.
    assert found.kept == 4 * (sum((i + 2 * width) * side**2 for i, side in zip(inputs, sides[:-1], strict=True)) + norms + features)


@pytest.mark.parametrize("name", ["resnet10", "tests.small:dropping"])
def test_a_network_is_counted_as_it_runs(name):
    found = counting.network({"name": name}, IMAGES)
    network = networks.build(name, channels=3, size=32, classes=10, seed=0).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 32, 32))
    assert found.operations == counter.get_total_flops() > 0
    assert found.parameters == sum(p.numel() for p in network.parameters()) and found.calls > 0 and found.kept > 0


def test_a_network_that_fails_is_named():
    with pytest.raises(UserError, match=r"^network convnet3: fails on an image of 3 x 32 x 32: .*; correct its settings or its code$"):
        counting.network({"name": "convnet3", "depth": 6}, IMAGES)


@pytest.mark.parametrize(("ipc", "size"), [(1, 32), (10, 16)])
@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "pixels"},
        {"kind": "formation", "factor": 2},
        {"kind": "latent", "decoders": 3, "code_channels": 2, "width": 2, "upsamplings": 3},
    ],
)
def test_synthetic_images_and_their_decoding_are_those_of_the_parametrisation(settings, ipc, size):
    found, decoding = counting.synthetic(settings, ipc, replace(IMAGES, size=size))
    made = parametrisations.build(Task(10, ipc, 3, size), **settings)
    with FlopCounterMode(display=False) as counter:
        made.decode(torch.arange(made.units))
    assert (found, decoding.operations * made.images) == (made.images, pytest.approx(counter.get_total_flops()))
    assert decoding.activations >= 3 * size**2 and decoding.parameters == made.used


def test_experts_cost_epochs_of_images_steps_and_a_test_each(study):
    one = 2 * 2 * 0.01 + (2 * 1400 * 3 + 397) * FORWARD
    found = [cost(study, "experts", "digits", shard) for shard in "01"]
    assert [c.seconds for c in found] == pytest.approx([3 + 2 + 3 * one, 3 + 2 + 2 * one])
    assert found[1].disk == pytest.approx(2 * (PARAMETERS * 3 * 2 + 2500) + 600)
    assert found[0].device and found[0].memory == pytest.approx(1e8 + 1797 * 256 + 2 * 700 * KEPT + 4 * PARAMETERS * 4 + PARAMETERS * 3 * 4)


def test_large_experts_are_compiled_and_threads_count_from_32_pixels_on():
    large = Study(
        {**SMALL, "datasets": {"cifar10": {"ipc": [1]}}, "distill_network": {"name": "convnet3"}, "experts": {"count": 1, "epochs": 50}}
    )
    net = counting.network({"name": "convnet3"}, IMAGES)
    steps, images = 50 * 196 * 0.01, (50 * 50_000 * 3 + 10_000) * on().forward(net)
    assert cost(large, "experts", "cifar10", "0", device_memory=0.0).seconds == pytest.approx(3 + 2 + 20 + steps + images / 4)
    assert cost(large, "experts", "cifar10", "0").seconds == pytest.approx(3 + 2 + steps + images)  # a GPU gains too little by it
    twice = rates.Device("toy", VALUES, threads=2)
    assert (twice.speed_up(32), twice.speed_up(16)) == (2.0, 1.0)


def test_an_evaluation_costs_each_seed_its_epochs_of_the_condensed_set(study):
    seed = 10 * 1 * 0.01 + (10 * 10 * 3 + 397) * FORWARD
    found = cost(study, "evaluate", "digits", "1", "dm", "convnet3")
    assert found.seconds == pytest.approx(3 + 2 + 3 * seed)
    assert found.disk == pytest.approx(870 * 3 / 5 + 600)
    full = 1 * 6 * 0.01 + (1 * 1400 * 3 + 397) * FORWARD  # 1400 images in batches of 256
    assert cost(study, "evaluate", "digits", "0", "full", "convnet3").seconds == pytest.approx(3 + 2 + 3 * full)


def test_a_distillation_costs_the_real_images_forward_and_the_synthetic_ones_by_objective(study):
    dm = cost(study, "distill", "digits", "1", "dm")
    assert dm.seconds == pytest.approx(3 + 2 + 4 * (2 * 0.1 + 160 * FORWARD + 10 * (3 * FORWARD + PIXELS)))
    assert dm.disk == pytest.approx(10 * 256 * 4 + 1500 + 600)
    assert cost(study, "distill", "digits", "1", "random").seconds == 3.0
    white = Study({**SMALL, "datasets": {"digits": SMALL["datasets"]["digits"] | {"whiten": "zca"}}})
    for job in (("prepare", "digits"), ("distill", "digits", "1", "dm")):
        assert cost(white, *job).disk - cost(study, *job).disk == pytest.approx(256 * 256 * 4)


def test_the_projection_loss_needs_no_real_images_but_a_second_derivative_and_an_inner_step(study):
    # Codes of 4x4 numbers; a decoder has 9 x 1 x 2 + 2 + 4 and 9 x 2 x 1 + 1 numbers, 43: (2560 - 86) // 160 = 15 codes a class.
    images = 15 * 10 * 2
    found, decoding = counting.synthetic(study.recipe("digits", 1, "esp_proj")["parametrisation"], 1, DIGITS)
    assert (found, decoding.operations) == (images, 2 * 9 * (1 * 2 * 64 + 2 * 1 * 256))
    step = 0.1 + 0.005 + images * (12 * on().forward(decoding) + (1 + 7 + 1) * FORWARD)
    assert cost(study, "distill", "digits", "1", "esp_proj").seconds == pytest.approx(3 + 2 + 4 * step)


@pytest.mark.parametrize(
    ("device_memory", "iterations", "changes", "compiled"),
    # A step is worth 160 real and 10 x 3 synthetic forward passes; compiling pays from 2e13 operations on, on a GPU from 20 times as many.
    [
        (0.0, 2e13 / 190 / OPERATIONS + 1, {}, True),
        (0.0, 2e13 / 190 / OPERATIONS - 1, {}, False),
        (1e9, 4e14 / 190 / OPERATIONS + 1, {}, True),
        (1e9, 4e14 / 190 / OPERATIONS - 1, {}, False),
        (0.0, 1e9, {"compile": "never"}, False),
        (0.0, 1e9, {"objectives": {"distribution": None, "gradient": {}}}, False),
    ],
)
def test_an_outer_step_is_compiled_where_that_pays(device_memory, iterations, changes, compiled):
    count = int(iterations)
    study = Study({**SMALL, "methods": {"dm": {"iterations": count, "real_batch": 16, **changes}}})
    found = cost(study, "distill", "digits", "1", "dm", device_memory=device_memory)
    real, synthetic = (3, 8) if "objectives" in changes else (1, 3)
    step = 2 * 0.1 + (160 * real + 10 * synthetic) * FORWARD + 10 * PIXELS
    assert found.seconds == pytest.approx(3 + 2 + (20 + count * step / 2.5 if compiled else count * step))


# docs/benchmarks.md, "On a GPU": CIFAR-10 at IPC 1, ConvNet-3 of width 128 unless another network is named.
CIFAR10 = {
    "study": "gpu",
    "datasets": {"cifar10": {"ipc": [1]}},
    "networks": ["convnet3", "resnet10"],
    "methods": {"esp": {}, "mtt": {}, "random": {}},
    "experts": {"count": 1, "epochs": 50},
    "evaluation": {"seeds": 1, "epochs": 1000},
}


def h100(*job, **methods):
    """Seconds of a job on an H100, less those that it takes to begin."""
    study = Study({**CIFAR10, "methods": {**CIFAR10["methods"], **methods}})
    device = rates.device("h100")
    return costing.cost(study, device, *job).seconds - device.values["start"] - device.values["first"]


def test_the_rates_of_an_h100_give_back_what_was_measured_on_one():
    eager = h100("distill", "cifar10", "1", "esp", esp={"iterations": 1, "real_batch": 256})
    compiled = h100("distill", "cifar10", "1", "esp", esp={"iterations": 100_000, "real_batch": 256})
    assert eager == pytest.approx(0.0626, rel=0.05) and compiled == pytest.approx(50 + 100_000 * 0.0319, rel=0.05)
    for steps, seconds in ((10, 0.0987), (50, 0.490)):
        objectives = {"trajectory": {"steps": steps}}
        found = h100("distill", "cifar10", "1", "mtt", mtt={"iterations": 100, "objectives": objectives}) / 100
        assert found == pytest.approx(seconds, rel=0.25)
    test = 10_000 * rates.device("h100").forward(counting.network({"name": "convnet3"}, IMAGES))
    images = 50 * 50_000 / (h100("experts", "cifar10", "0") - test)
    assert images == pytest.approx(54_800, rel=0.1)  # images/s of the same training in eager float32, on 800 images
    for method, network, seconds in (
        ("esp", "convnet3", 0.0165),
        ("random", "convnet3", 0.0030),
        ("esp", "resnet10", 0.0354),
        ("random", "resnet10", 0.0055),
    ):
        assert h100("evaluate", "cifar10", "1", method, network) / 1000 == pytest.approx(seconds, rel=0.15)


def test_trajectory_matching_costs_its_students_steps_and_keeps_their_graph():
    methods = {"mtt": {"iterations": 4, "teacher": {"start_max": 0}, "objectives": {"trajectory": {"steps": 6}}}}
    study = Study({**SMALL, "methods": methods})
    found = cost(study, "distill", "digits", "1", "mtt")
    step = 0.1 + 0.005 + 6 * (9 * 10 * FORWARD + 0.03) + 10 * PIXELS
    assert found.seconds == pytest.approx(3 + 2 + 4 * step)
    shorter = Study({**SMALL, "methods": {"mtt": {**methods["mtt"], "objectives": {"trajectory": {"steps": 3}}}}})
    more = found.memory - cost(shorter, "distill", "digits", "1", "mtt").memory
    assert more == pytest.approx(3 * 10 * KEPT * 3, rel=0.03)


def test_a_network_that_learns_from_real_images_costs_all_of_them():
    teacher = {"images": 1000, "batch": 64}
    few, many = (
        cost(
            Study({**SMALL, "methods": {"idc": {"iterations": 4, "teacher": {**teacher, **more}}}}), "distill", "digits", "1", "idc"
        ).seconds
        for more in ({"images": 64}, {})
    )
    # 16 batches instead of one; of more images than there are, all.
    assert many - few == pytest.approx(4 * (15 * 0.01 + 3 * 936 * FORWARD))
    all_of_them = Study({**SMALL, "methods": {"idc": {"iterations": 4, "teacher": {**teacher, "images": 10**6}}}})
    assert cost(all_of_them, "distill", "digits", "1", "idc").seconds - few == pytest.approx(4 * (21 * 0.01 + 3 * (1400 - 64) * FORWARD))


def test_the_synthetic_graph_never_takes_more_than_a_quarter_of_the_device(study):
    decoding = counting.synthetic(study.recipe("digits", 1, "esp_proj")["parametrisation"], 1, DIGITS)[1]
    small = cost(study, "distill", "digits", "1", "esp_proj", device_memory=1e6).memory
    large = cost(study, "distill", "digits", "1", "esp_proj", device_memory=1e12).memory
    assert large - small == pytest.approx(300 * (KEPT + decoding.kept) * 3 - 0.25e6)


def test_what_can_only_be_guessed_is_said(tmp_path):
    datasets = {"mine": {"kind": "imagefolder", "ipc": [1], "options": {"path": str(tmp_path), "size": 48}}}
    study = Study({**SMALL, "datasets": datasets, "networks": ["tests.small:dropping"], "methods": {"dm": {}}, "experts": {"count": 1}})
    rows, notes = plan.plan(study, "cpu", plan.Slots(2, 2, {}))
    assert notes == ["mine: taken as 12,000 images of 48x48, 10 classes"]
    assert rows[-1].jobs == len(list(study.jobs()))
    recipe = {"objectives": {"distribution": {}, "mine": {}}, "teacher": {"kind": "ours"}}
    assert list(costing._unfamiliar(recipe)) == [
        "objectives mine has no entry in esp_core/planning/rates.yaml: the default is used",
        "teachers ours has no entry in esp_core/planning/rates.yaml: the default is used",
    ]


def test_every_rate_has_its_unit_and_source_and_every_kind_its_factor():
    known = rates.rates()
    sections = [*(device["rates"] for device in known["devices"].values()), known["workflow"], known["disk"]]
    assert all({"value", "unit", "source"} == set(rate) for section in sections for rate in section.values())
    names = [set(device["rates"]) for device in known["devices"].values()]
    assert names.count(names[0]) == len(names) and names[0] == set(VALUES)
    assert all(set(device["estimated"]) < names[0] for device in known["devices"].values())
    for section, kind in (("objectives", "objectives"), ("teachers", "teacher")):
        assert set(kinds.names(kind)) <= set(known[section])
        assert all("source" in entry for entry in known[section].values())


def test_jobs_whose_output_is_there_are_done_and_cost_nothing(study, tmp_path):
    def planned(jobs):
        for job in jobs:
            path = tmp_path / output_paths.output(study.name, *job)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return {row.stage: row for row in plan.plan(study, "cpu", plan.Slots(2, 2, {}), tmp_path)[0]}

    jobs = list(study.jobs())
    none, some, every = planned([]), planned(jobs[:4]), planned(jobs)
    found = {stage: (row.jobs, row.done) for stage, row in some.items()}
    ahead = {"download": (0, 0), "prepare": (3, 3), "experts": (3, 1)}
    assert found == {**ahead, "distill": (3, 0), "evaluate": (4, 0), "tables": (3, 0), "figures": (2, 0), "all": (18, 4)}
    assert some["prepare"].hours == some["prepare"].wall == some["prepare"].disk == 0 < none["prepare"].hours
    assert some["experts"].hours < none["experts"].hours
    assert (every["all"].done, every["all"].wall, every["all"].disk) == (18, 0, 0)


def test_wall_time_is_work_over_what_runs_at_once_but_no_less_than_the_longest_chain(study, monkeypatch):
    seconds = {"prepare": 10.0, "experts": 100.0, "distill": 40.0, "evaluate": 20.0}
    monkeypatch.setattr(plan, "cost", lambda study, on, stage, *job: costing.Cost(seconds.get(stage, 0.0), 1.0, 7.0, stage == "experts"))
    # 0.3 s a job are Snakemake's. Four jobs at once, but one shard at a time, of two threads.
    stages = {
        "prepare": (10.3 + 2 * 0.3) / 4,
        "experts": 2 * 100.3 + 0.3 / 4,
        "distill": 3 * 40.3 / 4,
        "evaluate": 4 * 20.3 / 4,
        "tables": 3 * 0.3 / 4,
        "figures": 2 * 0.3 / 4,
    }
    rows = {row.stage: row for row in plan.plan(study, "cpu", plan.Slots(4, 1, {"train_experts": 2}))[0]}
    assert rows["experts"].wall * 3600 == pytest.approx(stages["experts"])
    assert rows["distill"].wall * 3600 == pytest.approx(40.0)  # three at once: the longest
    assert rows["all"].wall * 3600 == pytest.approx(sum(stages.values()) + 4.0)
    assert rows["experts"].hours * 3600 == pytest.approx(2 * 100 * 2) and rows["distill"].hours * 3600 == pytest.approx(3 * 40)
    assert (rows["all"].jobs, rows["all"].memory) == (18, 7.0)
    wide = plan.plan(study, "cpu", plan.Slots(1000, 1000, {}))[0]
    assert wide[-1].wall * 3600 == pytest.approx(10 + 100 + 40 + 20 + 4)


PROFILES = ROOT / "workflow" / "profiles"


@pytest.mark.parametrize(("here", "jobs", "threads"), [("cpu", 6, 1), ("cuda", 1, 4), ("mps", 1, 4)])
def test_this_machine_runs_a_job_a_core_or_a_job_a_gpu(here, jobs, threads, monkeypatch):
    monkeypatch.setattr(plan, "_cores", lambda: 6)
    for asked, found in (("auto", here), (here, here)):
        monkeypatch.setattr(plan, "device_type", lambda device, elsewhere, found=found: found)
        default = plan.slots(plan.DEFAULT, asked)
        assert (default.cores, default.device, default.here) == (6, here, True)
        assert {(default.jobs(stage, True), default.of(stage)) for stage in plan.RULES} == {(jobs, threads)}
        assert default.jobs("tables", False) == 6


@pytest.mark.parametrize(
    ("profile", "asked", "jobs", "threads"),
    # The profile for SLURM says itself what jobs ask for; through the other, one of processors asks for no GPU.
    [("slurm", "auto", 8, 4), ("slurm", "cpu", 8, 4), ("cluster", "auto", 8, 4), ("cluster", "cuda", 8, 4), ("cluster", "cpu", 100, 1)],
)
def test_a_cluster_runs_as_many_jobs_as_its_profile_allows(profile, asked, jobs, threads):
    allowed = plan.slots(PROFILES / profile, asked)
    assert (allowed.jobs("distill", True), allowed.of("distill"), allowed.here) == (jobs, threads, False)


def test_a_profile_that_cannot_be_read_is_named():
    with pytest.raises(UserError, match=r"^--profile nowhere: cannot be read"):
        plan.slots(Path("nowhere"), "auto")


def test_jobs_that_do_not_fit_beside_each_other_are_noted(monkeypatch):
    monkeypatch.setattr(memory, "total_bytes", lambda device: 16e9)
    rows = [plan.Row(stage, 9, 0, 1.0, 1.0, 1.0, memory) for stage, memory in (("prepare", 9e9), ("experts", 2e9), ("distill", 5e9))]
    processor, eight = on(device_memory=0.0), plan.Slots(8, 8, {}, "cpu")
    note = "distill: 8 jobs at once of up to 5.0 GB each are more than this machine's 16.0 GB; snakemake --cores 3 runs fewer"
    assert list(plan._crowded(rows, eight, processor)) == [note]
    for allowed, device in ((plan.Slots(3, 3, {}, "cpu"), processor), (plan.Slots(8, 8, {}, "cpu", here=False), processor), (eight, on())):
        assert not list(plan._crowded(rows, allowed, device))


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "esp_core", "plan", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=200)


def test_the_command_prints_stages_and_a_total_and_says_what_was_never_measured(tmp_path):
    lines = run("config/demo.yaml", "--results", str(tmp_path)).stdout.splitlines()
    cores = available_cpu_count()
    at_once = f"{cores} cores, jobs at once: {cores}, threads of each: 1"
    assert lines[0] == f"Study demo on cpu (rates measured: esp_core/planning/rates.yaml), {at_once}"
    assert [line.split()[0] for line in lines[2:11]] == ["stage", *plan.STAGES, "all"]
    assert "core-hours" in lines[2]
    paper = run("--device", "h100", "--results", str(tmp_path)).stdout
    assert "Study paper on h100 (rates measured, but for start, first, light, memory: esp_core/" in paper and "GPU-hours" in paper
    wrong = run("--device", "abacus")
    assert (wrong.returncode, wrong.stdout) == (1, "") and wrong.stderr.startswith("error: --device abacus: no rates; allowed: cpu, h100")


def test_the_demo_took_the_disk_and_the_time_that_are_planned():
    """Where it ran here to its end: disk within a tenth; no more than half too much time, for jobs two at a time beside other work."""
    study, on = load(ROOT / "config" / "demo.yaml"), plan.device("cpu")
    if (
        not all((DEMO.parent / output_paths.output(study.name, *job)).is_file() for job in study.jobs())
        or not (DEMO / "report.html").is_file()
    ):
        pytest.skip("results/demo is not complete: make demo")
    rows, _ = plan.plan(study, "cpu", plan.Slots(2, 2, {}))
    assert rows[-1].disk == pytest.approx(sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()), rel=0.1)
    took = sum(json.loads(path.read_text().splitlines()[-1])["s"] for path in (DEMO / "benchmarks").rglob("*.jsonl"))
    assert sum(costing.cost(study, on, *job).seconds for job in study.jobs()) < 1.5 * took

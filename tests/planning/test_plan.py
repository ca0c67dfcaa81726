"""What a study will cost: stages against sums done by hand, and the whole against a run of the demo."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from snakemake.utils import available_cpu_count
from toy_device import FORWARD, SMALL, cost, on

from esp_core.distillation import memory
from esp_core.planning import costing, plan
from esp_core.runtime.errors import UserError
from esp_core.study import output_paths
from esp_core.study.config import Study, load

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "results" / "demo"


@pytest.fixture
def study():
    return Study(SMALL)


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


def test_jobs_that_share_a_gpu_fill_its_waits_but_take_at_least_the_time_in_which_it_works(study):
    """Of a step's 10 ms the toy works 2.5; `start`, `first` and `compilation` are the CPU's."""
    experts = [cost(study, "experts", "digits", shard).seconds for shard in "01"]
    works = [(2 * 2 * 0.0025 + (2 * 1400 * 3 + 397) * FORWARD) * count for count in (3, 2)]
    assert sum(works) > sum(experts) / 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "device", lambda name, threads=1, share=1: replace(on(), threads=threads, share=share))
        for slots, share, hours, wall in ((1, 1, sum(experts), None), (4, 4, sum(works), None), (8, 4, sum(works), sum(works) / 2)):
            rows = {row.stage: row for row in plan.plan(study, "toy", plan.Slots(8, slots, {"train_experts": 1}, share=share))[0]}
            assert rows["experts"].hours * 3600 == pytest.approx(hours)
            assert rows["experts"].wall * 3600 == pytest.approx(max(wall or 0, max(experts))) or share == 1
        patch.setattr(plan, "device", lambda name, threads=1, share=1: replace(on(device_memory=0.0), threads=threads, share=share))
        shares = [plan.plan(study, "toy", plan.Slots(8, 8, {}, "cpu", share=share))[0] for share in (1, 4)]
        assert shares[0] == shares[1]  # of a processor's cores each has a job
        patch.setattr(plan, "device", lambda name, threads=1, share=1: replace(on(), threads=threads, share=share))
        few = {row.stage: row for row in plan.plan(study, "toy", plan.Slots(2, 4, {"train_experts": 2}, share=4))[0]}
        assert few["experts"].hours * 3600 == pytest.approx(sum(experts))  # two cores run one job, whatever may share a GPU


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


def test_cores_and_gpus_replace_the_profiles_and_the_share_is_the_workflows(monkeypatch):
    monkeypatch.setenv("ESP_GPU_SHARE", "4")
    found = plan.slots(plan.DEFAULT, "cuda", cores=16, gpus=4)
    assert (found.cores, found.jobs("distill", True), found.share) == (16, 4, 4)


def test_a_profile_that_cannot_be_read_is_named():
    with pytest.raises(UserError, match=r"^--profile nowhere: cannot be read"):
        plan.slots(Path("nowhere"), "auto")


def test_jobs_that_do_not_fit_beside_each_other_are_noted(monkeypatch):
    monkeypatch.setattr(memory, "total_bytes", lambda device: 16e9)
    rows = [plan.Row(stage, 9, 0, 1.0, 1.0, 1.0, memory) for stage, memory in (("prepare", 9e9), ("experts", 2e9), ("distill", 5e9))]
    processor, eight = on(device_memory=0.0), plan.Slots(8, 8, {}, "cpu")
    note = "distill: 8 jobs at once of up to 5.0 GB each are more than this machine's 16.0 GB; snakemake --cores 3 runs fewer"
    assert list(plan._crowded(rows, eight, processor)) == [note]
    each = "2 jobs on a GPU, of which one may take 5.0 GB, can be more than its 8.0 GB"
    shared = plan.Slots(8, 8, {}, share=2)
    assert list(plan._crowded(rows, shared, on(device_memory=8e9))) == [f"distill: {each}; lower ESP_GPU_SHARE"]
    assert not list(plan._crowded(rows, shared, on(device_memory=10e9)))
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


@pytest.mark.parametrize(("column", "share"), [(1, 4), (2, 1)])
def test_the_benchmarks_page_has_the_hours_that_the_plan_prints(column, share, monkeypatch):
    monkeypatch.setenv("ESP_GPU_SHARE", str(share))
    rows, _ = plan.plan(load(ROOT / "config" / "config.yaml"), "h100", plan.slots(plan.DEFAULT, "cuda", 16, share))
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").partition("## GPU-hours of the paper")[2].partition("\n- ")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    printed = {line[0]: line[column] for line in lines}
    assert {row.stage: f"{row.hours:.0f}" for row in rows if row.stage in printed} == {
        k: v for k, v in printed.items() if k != "stage" and "-" not in k
    }


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

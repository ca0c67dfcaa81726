"""How many jobs run at once, and on how many threads: with a GPU here, without one, and on a cluster."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from esp_core.study import gpu

LISTED = (
    "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-5a-1)\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-5a-2)\n  MIG 1g.10gb Device 0: (UUID: MIG-7b)\n"
)
ALONE, BESIDE = {"1 gpu=0"}, {"4 gpu=1"}
# A stage that waits for jobs beside it, as long as PATIENCE says, and writes how many it met, itself included, and its threads.
MEETING = """
import os, sys, time
from pathlib import Path

here, out = Path("meeting"), Path(sys.argv[sys.argv.index("--out") + 1])
here.mkdir(exist_ok=True)
(here / str(os.getpid())).touch()
end = time.monotonic() + float(os.environ["PATIENCE"])
met = 0
while met < 3 and time.monotonic() < end:
    met = max(met, len(list(here.glob("*"))))
    time.sleep(0.02)
out.write_text(f"{met} {os.environ['OMP_NUM_THREADS']}")
if met < 3:
    (here / str(os.getpid())).unlink()
main = lambda: None
"""
SETS = [f"results/tiny/distilled/digits/ipc-{ipc}/dm.safetensors" for ipc in (1, 2, 3)]


def program(folder, name, text):
    """A program `name` for the path, and the path that begins with its folder."""
    file = folder / "bin" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return f"{file.parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def no_gpu(tmp_path, monkeypatch):
    """An nvidia-smi that finds no driver, first on the path."""
    monkeypatch.setenv("PATH", program(tmp_path, "nvidia-smi", "echo 'NVIDIA-SMI has failed'\nexit 9"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu.sys, "platform", "linux")
    gpu._sees_nvidia.cache_clear()
    yield
    gpu._sees_nvidia.cache_clear()


@pytest.fixture
def gpus(no_gpu, tmp_path):
    """An nvidia-smi that lists two GPUs."""
    (tmp_path / "listed").write_text(LISTED)
    program(tmp_path, "nvidia-smi", f'[ "$*" = -L ] && cat {tmp_path}/listed')


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "mps"])
def test_a_device_that_the_study_names_is_not_looked_for(device, monkeypatch):
    monkeypatch.setattr(gpu, "_sees_nvidia", lambda visible: pytest.fail("asked for GPUs"))
    assert gpu.device_type(device) == gpu.device_type(device, elsewhere=True) == device[:4].rstrip(":")


@pytest.mark.parametrize(
    ("visible", "kind"),
    [
        *((visible, "cuda") for visible in (None, "0", "1", "1,0", " 1 , 7", "GPU-5a-2", "GPU-5a", "MIG-7b")),
        *((visible, "cpu") for visible in ("", "-1", "2", "7,0", "GPU-6", "none", "GPU")),
    ],
)
def test_auto_is_a_gpu_where_one_is_listed_and_visible(gpus, monkeypatch, visible, kind):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu.device_type("auto") == kind


def test_auto_is_the_processor_where_the_driver_fails_is_not_there_or_does_not_answer(no_gpu, tmp_path, monkeypatch):
    assert gpu.device_type("auto") == "cpu"
    gpu._sees_nvidia.cache_clear()
    program(tmp_path, "nvidia-smi", "exec sleep 30")
    monkeypatch.setattr(gpu, "SECONDS", 0.1)
    assert gpu.device_type("auto") == "cpu"
    gpu._sees_nvidia.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.device_type("auto") == "cpu"
    assert gpu.device_type("auto", elsewhere=True) == "cuda"
    monkeypatch.setattr(gpu.sys, "platform", "darwin")
    assert gpu.device_type("auto") == "mps"


@pytest.fixture
def study(bare, tmp_path):
    """A copy of the workflow, and a function that gives its study a device."""
    repository = type(bare)(Path(shutil.copytree(bare.folder, tmp_path / "repository")))

    def on(device):
        repository.save({**repository.config, "device": device})
        return repository

    return on


def asked(repository, *arguments):
    """Threads and GPUs that the jobs on a device would ask for, as Snakemake says; each kind of them once."""
    shown = repository.run("--dry-run", "--quiet", "host", *arguments)
    blocks = re.findall(r"^rule (?:distill|train_experts|evaluate):\n((?: {4}.*\n)*)", shown, flags=re.MULTILINE)
    assert len(blocks) == 10  # two shards, two methods and their evaluations in two cells
    found = [(re.search(r"threads: (\d+)", block), re.search(r"gpu=\d+", block)) for block in blocks]
    return {f"{threads[1] if threads else 1} {gpus[0]}" for threads, gpus in found}


def test_without_a_gpu_jobs_take_a_thread_each_and_no_gpu_but_on_a_cluster(no_gpu, study):
    assert asked(study("auto"), "--cores", "8") == ALONE
    assert asked(study("auto"), "--workflow-profile", "workflow/profiles/cluster") == {"1 gpu=1"}  # a dry run has one core
    assert asked(study("cuda"), "--cores", "8") == BESIDE


def test_with_a_gpu_jobs_take_four_threads_and_the_gpu_unless_the_study_says_cpu(gpus, study):
    assert asked(study("auto"), "--cores", "8") == BESIDE
    assert asked(study("cpu"), "--cores", "8") == ALONE


def run(repository, *arguments, **environment):
    """Snakemake's output, which has to end well."""
    words = repository.command(*arguments, "--quiet", "host")
    done = subprocess.run(words, cwd=repository.folder, env={**repository.environment, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def meeting(study):
    """Three sets to distil, by jobs that wait for each other; their data are as good as prepared."""
    repository = study("auto")
    data = repository.folder / "results" / "tiny" / "data" / "digits.h5"
    data.parent.mkdir(parents=True)
    data.touch()
    config = repository.config
    config["datasets"]["digits"]["ipc"] = [1, 2, 3]
    repository.save({**config, "methods": {"dm": config["methods"]["dm"]}})
    (repository.folder / "esp_core" / "stages" / "distill.py").write_text(MEETING)
    return repository


def seen(repository):
    """Jobs that met, the most, and the threads of each."""
    texts = [(repository.folder / path).read_text().split() for path in SETS]
    return max(int(met) for met, _ in texts), {threads for _, threads in texts}


def test_without_a_gpu_as_many_jobs_run_as_there_are_cores_and_a_gpu_makes_none_run_again(no_gpu, meeting, tmp_path):
    run(meeting, *SETS, "--cores", "3", PATIENCE="60")
    assert seen(meeting) == (3, {"1"})
    (tmp_path / "listed").write_text(LISTED)
    program(tmp_path, "nvidia-smi", f"cat {tmp_path}/listed")
    assert "Nothing to be done" in run(meeting, *SETS)


def test_with_a_gpu_one_job_runs_at_a_time(gpus, meeting):
    run(meeting, *SETS, "--cores", "12", PATIENCE="0.5")
    assert seen(meeting) == (1, {"4"})


def test_a_cluster_is_asked_for_gpus_from_a_machine_that_has_none(no_gpu, meeting, tmp_path):
    program(tmp_path, "sbatch", f'printf "%s\\n" "$@" > {tmp_path}/asked\nexit 1')
    words = meeting.command(
        SETS[0],
        "--workflow-profile",
        "workflow/profiles/cluster",
        "--seconds-between-status-checks",
        "1",
        "--retries",
        "0",
        "--quiet",
        "all",
    )
    done = subprocess.run(words, cwd=meeting.folder, env=meeting.environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert {"--cpus-per-task=4", "--gpus=1", "--mem=16000"} <= set((tmp_path / "asked").read_text().split())

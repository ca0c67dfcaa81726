"""Run a study of seconds under a real SLURM on this machine, through both cluster profiles: `make slurm-test`.

    python tests/cluster/run_slurm.py [--study config/demo.yaml]

Installs SLURM where it is missing (as root, with apt), starts munged, slurmctld and slurmd with two stand-ins for GPUs, runs the study
with the profile `slurm`, cancelling a job that runs, and again with the profile `cluster`, looks at what SLURM says of the jobs, and shuts
down what it started. The packages stay. Where SLURM cannot be had it says why and ends with 0. With `--study` that study runs through
the profile `slurm` instead, and its Table 1 is printed.
"""

import argparse
import csv
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "workflow"))

from conftest import TINY, Repository  # noqa: E402

CONFIG = Path("/etc/slurm")  # the plugin's job steps drop SLURM_CONF, so it has to lie where SLURM looks for it
MARK = "# written by tests/cluster/run_slurm.py"
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
GPUS = ("/dev/null", "/dev/zero")  # devices that SLURM counts and gives away; `auto` then computes on the processor
# More cores and memory than a small machine has: SLURM only counts them, and the profiles stay as they are.
CORES, MEGABYTES = 16, 64_000
QUICK = ("--slurm-no-account", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "8")
STUDY = {**TINY, "device": "auto", "datasets": {"digits": {"ipc": [1], "options": {"size": 16}}}}
SMALLER = {**STUDY, "methods": {"dm": STUDY["methods"]["dm"]}}
# What is submitted, by rule or group. What computes has one thread, since the machine is small.
ON_A_GPU = ("train_experts", "distill", "evaluate")
JOBS = {
    "data": 1,
    "try_networks_and_sets": 1,
    "try_distill_network": 1,
    "train_experts": 2,
    "list_experts": 1,
    "distill": 2,
    "evaluate": 2,
    "tables": 1,
}
FEWER_JOBS = {"data": 1, "try_networks_and_sets": 1, "distill": 1, "evaluate": 1, "tables": 1}
THREADS = ("--set-threads", *(f"{rule}=1" for rule in (*ON_A_GPU, "evaluate_full", "measure_memory")))


class NoSlurmError(Exception):
    """SLURM cannot be had here."""


def install() -> None:
    """SLURM's packages, where they are missing."""
    if os.geteuid() != 0:
        raise NoSlurmError("only root may start SLURM's daemons and write /etc/slurm")
    file = CONFIG / "slurm.conf"
    if file.exists() and MARK not in file.read_text():
        raise NoSlurmError(f"{file} is there: this machine belongs to a cluster, which is left alone")
    if all(shutil.which(program) for program in PROGRAMS):
        return
    if not shutil.which("apt-get"):
        raise NoSlurmError("SLURM is not installed, and there is no apt-get to install it with")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (("update",), ("install", "--yes", "--no-install-recommends", "slurm-wlm", "munge")):
        done = subprocess.run(["apt-get", "-qq", *words], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoSlurmError(f"apt-get {words[0]} failed: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")


def configuration(folder: Path, host: str) -> str:
    """slurm.conf: one node, this machine, without accounting, with all its files in `folder`."""
    for name in ("state", "spool", "log"):
        (folder / name).mkdir()
    return f"""{MARK}
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
MinJobAge=3600
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={CORES} RealMemory={MEGABYTES} Gres=gpu:{len(GPUS)} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def daemon(*command: str, pid_file: Path, user: tuple[str, ...] = ()) -> Iterator[None]:
    """A program that goes into the background by itself, and is ended afterwards."""
    subprocess.run([*user, *command], check=True)
    until(lambda: pid_file.exists() and pid_file.read_text().strip(), f"{command[0]} did not start")
    pid = int(pid_file.read_text())
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{pid}").exists(), f"{command[0]} did not end")


def until(true, complaint: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            sys.exit(f"error: {complaint} within {seconds:.0f} seconds")
        time.sleep(0.05)


def answers(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def slurm() -> Iterator[None]:
    """A SLURM of one node, up and idle."""
    host = socket.gethostname().partition(".")[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        folder.chmod(0o755)
        if not answers("munge", "--no-input"):
            subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "-m", "755", "/run/munge"], check=True)
            pid_file = Path("/run/munge/munged-test.pid")
            munged = daemon("munged", f"--pid-file={pid_file}", pid_file=pid_file, user=("runuser", "-u", "munge", "--"))
            stack.enter_context(munged)
        CONFIG.mkdir(exist_ok=True)
        gpus = "".join(f"NodeName={host} Name=gpu File={file}\n" for file in GPUS)
        for name, text in {"slurm.conf": configuration(folder, host), "gres.conf": f"{MARK}\n{gpus}"}.items():
            stack.callback((CONFIG / name).unlink)
            (CONFIG / name).write_text(text)
        try:
            stack.enter_context(daemon("slurmctld", "-c", pid_file=folder / "slurmctld.pid"))
            stack.enter_context(daemon("slurmd", pid_file=folder / "slurmd.pid"))
            until(lambda: "idle" in output("sinfo", "--noheader", "--format=%T"), "the node is not idle")
            yield
        except BaseException:
            for log in sorted((folder / "log").glob("*.log")):
                print(f"\n{log.name}, its last lines:", *log.read_text().splitlines()[-15:], sep="\n")
            raise
        finally:
            subprocess.run(["scancel", "--user=root"], capture_output=True, check=False)


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def jobs() -> list[dict[str, str]]:
    """What SLURM knows of every job, finished ones included."""
    lines = output("scontrol", "--oneliner", "show", "jobs").splitlines()
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines if line.startswith("JobId=")]


def run(repository: Repository, profile: str, *arguments: str) -> None:
    """The study through a profile, as a user types it."""
    words = ("--configfile", str(repository.config_file), "--workflow-profile", f"workflow/profiles/{profile}")
    command = [sys.executable, "-m", "snakemake", *words, *THREADS, "--seconds-between-status-checks", "2", *arguments]
    done = subprocess.run(command, cwd=repository.folder, env=repository.environment, text=True, capture_output=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr)
        sys.exit(f"error: the study ended with {done.returncode} through the profile {profile}")


def cancel_one(comment: str) -> None:
    """Cancel the first job whose comment begins so, as soon as it runs."""
    while not (running := [job for job in jobs() if job["Comment"].startswith(comment) and job["JobState"] == "RUNNING"]):
        time.sleep(0.2)
    subprocess.run(["scancel", running[0]["JobId"]], check=True)


def check(found: list[dict[str, str]], named: str, wanted: dict[str, int], cancelled: int = 0) -> None:
    """That SLURM ran the jobs `wanted`, each with what its rule asks for, and saw none fail; `named` finds a job's rule or group."""
    assert sum(job["JobState"] == "CANCELLED" for job in found) == cancelled
    kinds = Counter()
    for job in [job for job in found if job["JobState"] != "CANCELLED"]:
        record = " ".join(f"{key}={value}" for key, value in job.items())
        kinds[kind := re.search(named, record)[1]] += 1
        assert job["JobState"] == "COMPLETED", record
        gpus = re.sub(r"\W", ":", job.get("TresPerJob", ""))  # gres:gpu:1, and gres/gpu:1 in later versions
        assert gpus == ("gres:gpu:1" if kind in ON_A_GPU else ""), record
        assert "mem=" in job["TRES"] and job["TimeLimit"] != "UNLIMITED", record
    assert kinds == wanted, kinds
    print(f"{kinds.total()} jobs completed under SLURM, {cancelled} cancelled: {dict(sorted(kinds.items()))}", flush=True)


def accuracies(repository: Repository) -> dict[str, str]:
    """Table 1's means by method; the grid of images must be there as well."""
    assert (repository.folder / "results/tiny/figures/grid-digits.png").stat().st_size > 0
    with (repository.folder / "results/tiny/tables/table1.csv").open() as file:
        return {row["method"]: row["mean"] for row in csv.DictReader(file) if row["n"] == "2"}


def copy(folder: Path, study: dict) -> Repository:
    """What the workflow runs on, and the study."""
    for name in ("esp_core", "workflow", "config"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "environment.yml", folder)
    repository = Repository(folder)
    repository.save(study)
    return repository


def tiny() -> None:
    """Both profiles on a study of seconds, what SLURM says of its jobs, and the same accuracies from both."""
    with slurm(), tempfile.TemporaryDirectory(prefix="study-") as name:
        print(f"{output('sinfo', '--version').strip()} is up", flush=True)
        folder = Path(name)
        one, two = copy(folder / "one", STUDY), copy(folder / "two", SMALLER)
        Thread(target=cancel_one, args=("rule_distill",), daemon=True).start()
        run(one, "slurm", *QUICK)
        first = jobs()
        check(first, rf"Comment=(?:rule|group)_({'|'.join(JOBS)})_", JOBS, cancelled=1)
        run(two, "cluster")
        check(jobs()[len(first) :], rf"JobName=snakejob\.({'|'.join(JOBS)})[._]", FEWER_JOBS)
        means = accuracies(one)
        assert means.keys() == {"dm", "esp"} and accuracies(two) == {"dm": means["dm"]}, (means, accuracies(two))
    print("both profiles ran the study and measured the same accuracy")


def whole(study: Path) -> None:
    """One study through the profile `slurm`; a copy of it, so that nothing of an earlier run is there."""
    with slurm(), tempfile.TemporaryDirectory(prefix="study-") as name:
        repository = copy(Path(name) / "one", TINY)
        repository.config_file = repository.folder / "config" / study.name
        shutil.copy(study, repository.config_file)
        run(repository, "slurm", *QUICK)
        states = Counter(job["JobState"] for job in jobs())
        assert states.keys() == {"COMPLETED"}, states
        [results] = (repository.folder / "results").glob("*/tables")
        subprocess.run([sys.executable, "-m", "esp_core", "tables", "show", results.parent], cwd=repository.folder, check=True)
    print(f"{study.name} ran through the profile slurm, {states.total()} jobs under SLURM")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--study", type=Path, help="run this one instead")
    arguments = parser.parse_args()
    start = time.monotonic()
    try:
        install()
    except NoSlurmError as reason:
        sys.exit(print(f"skipped: {reason}"))
    installed = time.monotonic()
    whole(arguments.study) if arguments.study else tiny()
    print(f"{time.monotonic() - start:.0f} s, {installed - start:.0f} of them to install SLURM")


if __name__ == "__main__":
    main()

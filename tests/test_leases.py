"""Leases on stand-in devices: names instead of GPUs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from trajectories.expert_specs import shard_spec

from esp_core.runtime import devices, leases
from esp_core.runtime.errors import UserError
from esp_core.stages.prepare import prepare

ROOT = Path(__file__).resolve().parent.parent
GIB = 2**30
HOLD = """
import sys
from esp_core.runtime import leases
lease = leases.take(sys.argv[2:], int(sys.argv[1]), poll=0.02)
print(lease.device, lease.slot, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of leases of the test's own; what this process took is given back afterwards."""
    monkeypatch.setenv(leases.FOLDER, str(tmp_path / "leases"))
    monkeypatch.delenv(leases.SHARE, raising=False)
    yield tmp_path / "leases"
    leases._forget()


@pytest.fixture
def start():
    """Start a program in a process of its own; what still runs at the end is killed."""
    processes = []

    def run(program, *arguments):
        command = [sys.executable, "-c", program, *map(str, arguments)]
        process = subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def holds(process):
    """What a holder says that it got, its words about waiting left out."""
    return next(line.strip() for line in process.stdout if not line.startswith("waiting"))


def can_take(*names, share=1):
    """Whether a slot is to be had just now; if so, this process has it."""
    return leases._free(leases.folder(), names, share) is not None


def test_two_processes_on_two_devices_never_meet(start):
    assert {holds(start(HOLD, 1, "a", "b")) for _ in range(2)} == {"a 0", "b 0"}
    assert not can_take("a", "b")


def test_jobs_share_a_device_only_when_each_has_one(start):
    assert [holds(start(HOLD, 2, "a", "b")) for _ in range(4)] == ["a 0", "b 0", "a 1", "b 1"]
    assert not can_take("a", "b", share=2)
    assert can_take("a", "b", share=3)


def test_the_lease_of_a_killed_process_is_free_at_once(start):
    holder = start(HOLD, 1, "a")
    assert holds(holder) == "a 0"
    waiter = start(HOLD, 1, "a")
    assert waiter.stdout.readline().startswith("waiting for a GPU: all 1 have one job each")
    holder.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    assert waiter.stdout.readline() == "a 0\n"
    assert time.monotonic() - killed < 1


FORK = """
import os, signal, time
from esp_core.runtime import leases
leases.take(["a"])
if os.fork() == 0:
    print(os.getpid(), flush=True)
    time.sleep(60)
    os._exit(0)
time.sleep(60)
"""


def test_a_child_does_not_hold_the_lease_of_its_killed_parent(start):
    parent = start(FORK)
    child = int(parent.stdout.readline())
    try:
        assert not can_take("a")
        parent.kill()
        parent.wait()
        os.kill(child, 0)
        assert can_take("a")
    finally:
        os.kill(child, signal.SIGKILL)


CRASH = """
import fcntl, os, signal
from esp_core.runtime import leases
leases.fcntl.flock = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
leases.take(["a"])
"""


def test_a_crash_between_opening_and_locking_stands_in_nobodys_way(start, folder):
    crashed = start(CRASH)
    assert crashed.wait() == -signal.SIGKILL
    assert [path.name for path in folder.iterdir()] == ["a.0"]
    assert leases.take(["a"]).slot == 0


MEET = """
import os, random, signal, sys, time
from pathlib import Path
from esp_core.runtime import leases
place, share, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
print("ready", flush=True)
sys.stdin.readline()
device = leases.take(["a", "b"], share, poll=0.003).device
mine = place / device / str(os.getpid())
mine.touch()
for _ in range(4):
    print(device, len(list((place / device).iterdir())), flush=True)
    time.sleep(chance.uniform(0, 0.05))
mine.unlink()
if chance.random() < 0.5:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("share", [1, 3])
def test_many_processes_never_exceed_the_share(start, tmp_path, share):
    """Eight at once, three rounds; each says who else it meets, counted by files apart from the leases, and half of them are killed."""
    for device in "ab":
        (tmp_path / device).mkdir()
    met, killed = Counter(), 0
    for round_ in range(3):
        processes = [start(MEET, tmp_path, share, 8 * round_ + i) for i in range(8)]
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 8
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            output = process.communicate()[0]
            killed += process.returncode == -signal.SIGKILL
            met.update(line for line in output.splitlines() if not line.startswith("waiting"))
    assert sum(met.values()) == 3 * 8 * 4 and killed > 5
    assert {line.split()[0] for line in met} == {"a", "b"}
    assert max(int(line.split()[1]) for line in met) == share


WAIT = """
from esp_core.runtime import leases
leases.take(["a"], poll=0.25, word=1.0)
"""


def test_waiting_is_told_now_and_then_and_costs_nothing(start):
    leases.take(["a"])
    waiter = start(WAIT)
    lines = [(waiter.stdout.readline(), time.monotonic()) for _ in range(3)]
    assert len({line for line, _ in lines}) == 1 and lines[0][0].startswith("waiting for a GPU")
    assert all(0.9 < b[1] - a[1] < 3 for a, b in pairwise(lines))
    waiter.kill()
    _, _, used = os.wait4(waiter.pid, 0)
    waiter.returncode = -signal.SIGKILL
    assert used.ru_utime + used.ru_stime < 1  # seconds of the two and more that it waited, the start of Python included


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", ""])
def test_a_share_that_is_no_number_of_jobs_is_named(monkeypatch, text):
    monkeypatch.setenv(leases.SHARE, text)
    with pytest.raises(UserError, match=f"ESP_GPU_SHARE={text}: give the number of jobs"):
        leases.share()


def test_the_folder_is_ones_own_and_made_for_nobody_else(monkeypatch, tmp_path):
    monkeypatch.delenv(leases.FOLDER)
    monkeypatch.setattr(leases.tempfile, "gettempdir", lambda: str(tmp_path))
    made = leases.folder()
    assert made == tmp_path / f"esp-leases-{os.getuid()}" and made.stat().st_mode & 0o777 == 0o700
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    made.rename(tmp_path / f"esp-leases-{mine + 1}")
    with pytest.raises(UserError, match="is not a folder of yours; name another in ESP_LEASES"):
        leases.folder()


def test_a_file_in_place_of_the_folder_is_named(folder):
    folder.write_text("")
    with pytest.raises(UserError, match="is no folder; name another in ESP_LEASES"):
        leases.take(["a"])


@pytest.fixture
def gpus(monkeypatch):
    """Stand-ins for torch's GPUs: gpus(2) makes two, gpus(1, free=…, reserved=…) one with so many bytes free and so many in reserve."""

    def set_up(count, free=70 * GIB, reserved=0):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=f"serial-{i}", name="stand-in"))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "stand-in")
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80 * GIB))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
        monkeypatch.setattr(devices, "_mine", set())

    return set_up


def test_a_job_gets_the_device_that_nobody_has_and_keeps_it(gpus, start, capsys):
    gpus(3)
    devices._announce.cache_clear()
    assert holds(start(HOLD, 1, "serial-0")) == "serial-0 0"
    assert devices.pick("auto") == torch.device("cuda", 1)
    assert devices.pick("cuda") == devices.pick("auto") == torch.device("cuda", 1)
    assert capsys.readouterr().out == "leased cuda:1, serial-1, slot 1 of 1\n"
    assert devices.pick("cuda:2") == torch.device("cuda", 2)
    assert not can_take("serial-0", "serial-1", "serial-2")


def test_the_only_device_is_leased_where_its_sharing_is_limited(gpus, monkeypatch, folder):
    gpus(1)
    assert devices.pick("auto") == torch.device("cuda") and not folder.exists()
    monkeypatch.setenv(leases.SHARE, "2")
    assert devices.pick("auto") == torch.device("cuda", 0)
    assert can_take("serial-0", share=2) and not can_take("serial-0", share=2)


def test_a_shortage_of_memory_is_one_sentence(gpus):
    gpus(1, free=3 * GIB)
    assert devices.pick("cuda", needs=2 * GIB) == torch.device("cuda")
    with pytest.raises(UserError, match=r"stand-in has 3\.0 of 80\.0 GiB free, and this job needs at least 3\.5; end what else"):
        devices.pick("cuda", needs=5 * GIB // 2)
    gpus(1, free=3 * GIB, reserved=GIB)
    assert devices.pick("cuda", needs=5 * GIB // 2) == torch.device("cuda")


def test_a_device_that_is_not_there_is_named(gpus):
    with pytest.raises(UserError, match="sees no CUDA device"):
        devices.pick("cuda")
    gpus(2)
    with pytest.raises(UserError, match=r"device: cuda:2 is asked for, but torch .* sees 2 CUDA device"):
        devices.pick("cuda:2")


EXPERTS = """
import json, os, signal, sys, time, torch
from pathlib import Path
from types import SimpleNamespace
from unittest import mock
from esp_core.runtime import devices
from esp_core.stages import experts

GPUS = dict(
    is_available=lambda: True,
    device_count=lambda: 2,
    get_device_properties=lambda i: SimpleNamespace(uuid="ab"[i]),
    get_device_name=lambda device: "stand-in",
    mem_get_info=lambda device: (2**33, 2**33),
    memory_reserved=lambda device: 0,
    set_device=lambda device: None,
)
folder, specs, real = Path(sys.argv[1]), json.loads(sys.argv[2]), devices.pick

def pick(name):
    with mock.patch.multiple(torch.cuda, **GPUS):
        real("cuda")
    return torch.device("cpu")

def start(number):
    if child := os.fork():
        return child
    os.dup2(os.open(folder / f"{number}.log", os.O_CREAT | os.O_WRONLY), 1)
    words = ["train", "--spec", json.dumps(specs[number]), "--data", folder / "digits.h5", "--out", folder / f"shard-{number}.h5"]
    sys.argv = ["experts.py", *map(str, words)]
    experts.main()
    os._exit(0)

def line(number, beginning):
    while True:
        log = folder / f"{number}.log"
        for found in log.read_text().splitlines(keepends=True) if log.exists() else []:
            if found.startswith(beginning) and found.endswith("\\n"):
                return found.split(", ")[1]
        time.sleep(0.01)

devices.pick = pick
long, short = start(0), start(1)
first = [line(0, "leased"), line(1, "leased")]
status = os.waitpid(short, 0)[1]
second = start(2), line(2, "leased")
third = start(3)
line(3, "waiting for a GPU: all 2 have one job each")
os.kill(long, signal.SIGKILL)
os.waitpid(long, 0)
killed = time.monotonic()
last = line(3, "leased")
seconds = time.monotonic() - killed
os.kill(second[0], signal.SIGKILL)
os.kill(third, signal.SIGKILL)
print(json.dumps([first, status, second[1], last, seconds]))
"""


def test_experts_jobs_on_two_devices_never_meet_and_a_killed_ones_lease_is_free_at_once(start, tmp_path):
    """Two that train side by side, one more when the shorter ends, and one that has to wait until the longer is killed."""
    prepare({"dataset": "digits", "kind": "digits", "options": {"size": 8}, "study_seed": 0}, tmp_path / "digits.h5")
    epochs = (100_000, 2, 100_000, 100_000)
    specs = [shard_spec(first=number, count=1, epochs=count, keep=2) for number, count in enumerate(epochs)]
    output, _ = start(EXPERTS, tmp_path, json.dumps(specs)).communicate()
    (long, short), status, second, last, seconds = json.loads(output)
    assert {long, short} == {"a", "b"}
    assert status == 0 and (tmp_path / "shard-1.h5").exists()
    assert second == short
    assert last == long and seconds < 1.5 * leases.POLL + 1

"""At most so many jobs on a device, whatever becomes of them. Devices are stand-ins: names instead of GPUs."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from esp_core.runtime import devices, leases
from esp_core.runtime.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
GIB = 2**30
HOLD = """
import os, sys, time
from esp_core.runtime import leases
lease = leases.take(sys.argv[2:], int(sys.argv[1]), poll=0.02, word=0.5)
print(lease.device, lease.slot, flush=True)
if os.environ.get("FORK") and os.fork() == 0:
    print(os.getpid(), flush=True)
    time.sleep(60)
    os._exit(0)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of leases of the test's own; what this process took is given back afterwards."""
    monkeypatch.setenv(leases.FOLDER, str(tmp_path / "leases"))
    monkeypatch.delenv(leases.SHARE, raising=False)
    yield tmp_path / "leases"
    while leases._held:
        leases._held.pop().release()


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


@pytest.mark.parametrize(("share", "found"), [(1, ["a 0", "b 0"]), (2, ["a 0", "b 0", "a 1", "b 1"])])
def test_jobs_share_a_device_only_when_each_has_one_and_never_more_than_the_share(start, share, found):
    assert [holds(start(HOLD, share, "a", "b")) for _ in found] == found
    assert not can_take("a", "b", share=share)
    assert can_take("a", "b", share=share + 1)


def test_who_waits_says_so_now_and_then_and_has_the_lease_of_a_killed_process_at_once(start):
    holder = start(HOLD, 1, "a")
    assert holds(holder) == "a 0"
    waiter = start(HOLD, 1, "a")
    lines = [(waiter.stdout.readline(), time.monotonic()) for _ in range(3)]
    assert len({line for line, _ in lines}) == 1 and lines[0][0].startswith("waiting for a GPU: all 1 have one job each")
    assert all(0.4 < b[1] - a[1] < 2 for a, b in pairwise(lines))
    holder.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    assert holds(waiter) == "a 0"
    assert time.monotonic() - killed < 1


def test_a_child_does_not_hold_the_lease_of_its_killed_parent(start, monkeypatch):
    monkeypatch.setenv("FORK", "1")
    parent = start(HOLD, 1, "a")
    assert holds(parent) == "a 0"
    child = int(parent.stdout.readline())
    try:
        assert not can_take("a")
        parent.kill()
        parent.wait()
        os.kill(child, 0)
        assert can_take("a")
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("text", ["0", "two", ""])
def test_a_share_that_is_no_number_of_jobs_is_named(monkeypatch, text):
    monkeypatch.setenv(leases.SHARE, text)
    with pytest.raises(UserError, match=f"ESP_GPU_SHARE={text}: give the number of jobs"):
        leases.share()


def test_the_folder_is_ones_own_and_made_for_nobody_else(monkeypatch, tmp_path):
    monkeypatch.delenv(leases.FOLDER)
    monkeypatch.setattr(leases.tempfile, "gettempdir", lambda: str(tmp_path))
    made, mine = leases.folder(), os.getuid()
    assert made == tmp_path / f"esp-leases-{mine}" and made.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    made.rename(tmp_path / f"esp-leases-{mine + 1}")
    with pytest.raises(UserError, match="is not a folder of yours; name another in ESP_LEASES"):
        leases.folder()


def test_a_folder_without_locks_and_a_file_in_its_place_are_named(folder, monkeypatch):
    def refuse(self):
        raise OSError(37, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(leases.FileLock, "_acquire", refuse)
        with pytest.raises(UserError, match=r"a\.0: cannot be locked \(No locks available\); name a folder on a local disk in ESP_LEASES"):
            leases.take(["a"])
    (folder / "a.0").unlink(missing_ok=True)
    folder.rmdir()
    folder.write_text("")
    with pytest.raises(UserError, match="is no folder; name another in ESP_LEASES"):
        leases.take(["a"])


@pytest.fixture
def gpus(monkeypatch):
    """Stand-ins for torch's GPUs: gpus(2) makes two, gpus(1, free=…, reserved=…) one with so many bytes free and so many in reserve."""

    def set_up(count, free=70 * GIB, reserved=0):
        stand_ins = {
            "is_available": lambda: True,
            "device_count": lambda: count,
            "get_device_properties": lambda i: SimpleNamespace(uuid=f"serial-{i}", name="stand-in"),
            "get_device_name": lambda device: "stand-in",
            "mem_get_info": lambda device: (free, 80 * GIB),
            "memory_reserved": lambda device: reserved,
            "set_device": lambda device: None,
        }
        for name, stand_in in stand_ins.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)
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


@pytest.mark.parametrize(
    ("found", "name", "told"),
    [
        ({"count": 0}, "cuda", "sees no CUDA device"),
        ({"count": 2}, "cuda:2", r"device: cuda:2 is asked for, but torch .* sees 2 CUDA device"),
        ({"count": 1, "free": GIB // 2}, "cuda", r"stand-in has 0\.5 of 80\.0 GiB free, and a job needs at least 1; end what else"),
        ({"count": 1, "free": GIB // 2, "reserved": GIB}, "cuda", ""),
    ],
)
def test_a_device_that_is_full_or_not_there_is_one_sentence(gpus, found, name, told):
    gpus(**found)
    with pytest.raises(UserError, match=told) if told else nullcontext():
        devices.pick(name)

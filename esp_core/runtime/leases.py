"""Which of a machine's GPUs a job works on: each job holds a lease, and at most `share` jobs hold one on the same device.

Snakemake counts GPUs but names none, so the jobs agree among themselves, through a folder of the machine with a file for each slot of
each device. The lease is a lock on the open file (`filelock`), not the file: the system gives it back on any death of the process, a file
that a crash left behind stands in nobody's way, and a forked child does not inherit it.
"""

import os
import stat
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from esp_core.runtime.errors import UserError, naming

FOLDER, SHARE = "ESP_LEASES", "ESP_GPU_SHARE"  # environment variables
POLL, WORD = 1.0, 60.0  # seconds between two looks for a free slot, and between two lines about the waiting

_held: list[FileLock] = []  # until this process ends


@dataclass(frozen=True)
class Lease:
    """A slot of a device: `index` is the device's place in the list that it was chosen from. Held until the process ends."""

    device: str
    index: int
    slot: int


def take(devices: Sequence[str], share: int = 1, poll: float = POLL, word: float = WORD) -> Lease:
    """A lease on one of `devices`, empty ones first; waits while each has `share` jobs, and says so at once and every `word` seconds.

    A device must have the same name in all processes, and no other device of the machine that name.
    Raises UserError where the folder of leases cannot be used.
    """
    place = folder()
    told = None
    while (lease := _free(place, devices, share)) is None:
        now = time.monotonic()
        if told is None or now - told >= word:
            told = now
            each = f"{share} jobs each" if share > 1 else "one job each"
            print(f"waiting for a GPU: all {len(devices)} have {each} ({FOLDER}={place}, {SHARE}={share})", flush=True)
        time.sleep(poll)
    return lease


def share() -> int:
    """How many jobs may work on one device at once: $ESP_GPU_SHARE, 1 without it."""
    text = os.environ.get(SHARE, "1")
    if not (text.isdecimal() and int(text)):
        raise UserError(f"{SHARE}={text}: give the number of jobs that may share one GPU, from 1")
    return int(text)


def folder() -> Path:
    """Where the leases of this machine lie: $ESP_LEASES, or a folder of one's own among the temporary files.

    Not in $XDG_RUNTIME_DIR, which goes at logout while jobs still run. Raises UserError for a folder that is not one's own.
    """
    given = os.environ.get(FOLDER)
    path = Path(given) if given else Path(tempfile.gettempdir()) / f"esp-leases-{os.getuid()}"
    with naming(path):
        try:
            path.mkdir(mode=0o700, parents=bool(given), exist_ok=True)
        except FileExistsError:
            raise UserError(f"{path}: is no folder; name another in {FOLDER}") from None
        found = path.lstat()
    if not given and (found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode)):
        raise UserError(f"{path}: is not a folder of yours; name another in {FOLDER}")
    return path


def _free(place: Path, devices: Sequence[str], share: int) -> Lease | None:
    """A lease on the emptiest device, None where all are full."""
    for slot in range(share):
        for index, device in enumerate(devices):
            if _lock(place / f"{quote(device, safe='')}.{slot}"):
                return Lease(device, index, slot)
    return None


def _lock(path: Path) -> bool:
    """Lock a slot for the life of this process; False where another holds it."""
    lock = FileLock(path, mode=0o600, blocking=False, fallback_to_soft=False)
    try:
        with naming(path):
            lock.acquire()
            path.touch()  # a slot in use must not look old to what clears temporary files away
    except Timeout:
        return False
    except OSError as error:
        raise UserError(f"{path}: cannot be locked ({error.strerror}); name a folder on a local disk in {FOLDER}") from None
    _held.append(lock)
    return True

"""Which of a machine's GPUs a job uses: each job holds a lease, and at most `share` jobs hold one on the same device.

Snakemake counts GPUs but does not assign them. So the jobs agree among themselves through a folder on the machine, with a file for each
slot of each device. The lease is a lock on the open file (`filelock`), not the file: the system releases it however the process ends,
a file left by a crash blocks nobody, and a forked child does not inherit the lock.
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
POLL, WORD = 1.0, 60.0  # seconds between two attempts, and between two messages about waiting

_held: list[FileLock] = []  # until the process ends


@dataclass(frozen=True)
class Lease:
    """A slot of a device; `index` is the device's index in the list given to `take`. Held until the process ends."""

    device: str
    index: int
    slot: int


def take(devices: Sequence[str], share: int = 1, poll: float = POLL, word: float = WORD) -> Lease:
    """A lease on one of `devices`, empty ones first. While each has `share` jobs, waits, with a message at once and every `word` seconds.

    A device must have the same name in all processes, and no two devices of a machine the same name.
    Raises UserError if the folder of leases cannot be used.
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
    """How many jobs may use one device at once: $ESP_GPU_SHARE, by default 1."""
    text = os.environ.get(SHARE, "1")
    if not (text.isdecimal() and int(text)):
        raise UserError(f"{SHARE}={text}: give the number of jobs that may share one GPU, from 1")
    return int(text)


def folder() -> Path:
    """The folder of this machine's leases: $ESP_LEASES, or a folder of the user's in the system's temporary folder.

    $XDG_RUNTIME_DIR would not do: it is deleted at logout while jobs still run. Raises UserError if the folder belongs to another user.
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
    """A lease on the emptiest device, or None if all are full."""
    for slot in range(share):
        for index, device in enumerate(devices):
            if _lock(place / f"{quote(device, safe='')}.{slot}"):
                return Lease(device, index, slot)
    return None


def _lock(path: Path) -> bool:
    """Lock a slot until the process ends; False if another process holds it."""
    lock = FileLock(path, mode=0o600, blocking=False, fallback_to_soft=False)
    try:
        with naming(path):
            lock.acquire()
            path.touch()  # a slot in use must not look old to programs that clean up temporary files
    except Timeout:
        return False
    except OSError as error:
        raise UserError(f"{path}: cannot be locked ({error.strerror}); name a folder on a local disk in {FOLDER}") from None
    _held.append(lock)
    return True

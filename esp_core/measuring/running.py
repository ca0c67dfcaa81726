"""Running one task in a process of its own, for a limited time.

A child is forked, since importing torch once a run is enough: so this process imports, but never computes and never touches the device.
What a task leaves in its process (precision flags, caches, a poisoned CUDA context) ends with it, and a task that runs out of memory
takes nothing else down. A child that is asked to end does so at once: every stage writes whole files and goes on from its .part.
"""

import ctypes
import fcntl
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from esp_core.errors import UserError

STOPPED = 75  # EX_TEMPFAIL of sysexits.h: come again
GRACE = 10.0  # seconds between asking a child to end and ending it
PATIENCE = 30.0  # seconds that the children of a killed run may take to end
PR_SET_PDEATHSIG = 1  # Linux, prctl(2)


@dataclass(frozen=True)
class Outcome:
    """`status`: done, failed or stopped; `message`: of a failure; `code`: the exit status, or less the number of a signal."""

    status: str
    seconds: float
    message: str = ""
    code: int = 0


class Asked:
    """Whether this process was asked to end, by SIGTERM or Ctrl-C."""

    def __init__(self) -> None:
        self.now = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.now = True


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold `folder` against a second run; the children of one that was killed are waited for. Raises UserError where it is in use."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise UserError(
                        f"{folder}: another measurement is running there; wait for it, or give another folder with --out"
                    ) from None
                time.sleep(0.1)
        yield


def run(work: Callable[[], None], log: Path, limit: float, asked: Callable[[], bool] = lambda: False, out: Path | None = None) -> Outcome:
    """Run `work` in a child for at most `limit` seconds; what it prints goes to `log`, its stdout to `out` where that is given."""
    for path in filter(None, (log, out)):
        path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    parent, start = os.getpid(), time.monotonic()
    read, write = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until the child can answer it
    child = os.fork()
    if not child:
        os.close(read)
        _become(work, log, out, write, parent)
    with suppress(ProcessLookupError, PermissionError):  # it is over, or has done so itself
        os.setpgid(child, child)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    os.close(write)
    stopped, status = _wait(child, start + limit, asked)
    with os.fdopen(read) as pipe:
        message = pipe.read()
    seconds = time.monotonic() - start
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return Outcome("done", seconds)
    if stopped or code == STOPPED:
        return Outcome("stopped", seconds, "", code)
    ended = f"ended by signal {-code}" + ("; out of memory?" if code == -signal.SIGKILL else "") if code < 0 else f"exit status {code}"
    return Outcome("failed", seconds, message or _last_line(log) or ended, code)


def asked_in_child(work: Callable[[], Any]) -> Any:
    """What `work` gives, computed in a child, as JSON. For questions to torch that would touch the device."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        try:
            os.write(write, json.dumps(work()).encode())
            os._exit(0)
        except BaseException as error:
            os.write(write, json.dumps({"error": str(error)}).encode())
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    if os.waitpid(child, 0)[1]:
        raise UserError(json.loads(answer)["error"] if answer else "the device could not be asked what it is")
    return json.loads(answer)


def _last_line(log: Path) -> str:
    """Of what a command said; nothing for one that said nothing."""
    lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
    return next((line.strip()[:2000] for line in reversed(lines) if line.strip()), "")


def _become(work: Callable[[], None], log: Path, out: Path | None, write: int, parent: int) -> NoReturn:
    """What the child does; it never returns."""
    code = 1
    try:
        code = _guarded(work, log, out, write, parent)
    finally:  # and nothing else: a signal may come at any moment
        os._exit(code)


def _guarded(work: Callable[[], None], log: Path, out: Path | None, write: int, parent: int) -> int:
    """Do the work as a process of its own; the exit code."""
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        leave_when_asked()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        _end_with(parent)
        for path, numbers in ((log, (1, 2)), (out, (1,))):
            if path is not None:
                opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
                for number in numbers:
                    os.dup2(opened, number)
        work()
        return 0
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        traceback.print_exc()
        os.write(write, " ".join(f"{type(error).__name__}: {error}".split())[:2000].encode())
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def leave_when_asked() -> None:
    """Let SIGTERM end this process by an exception, so that half-written files go and the .part stays."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(STOPPED)


def _end_with(parent: int) -> None:
    """Ask Linux to end this child with its parent, however that ends; elsewhere it runs to its end and the next run waits for it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            raise SystemExit(STOPPED)


def _wait(child: int, end: float, asked: Callable[[], bool]) -> tuple[bool, int]:
    """(whether the child was asked to end, its status). Processes that it left are ended too."""
    pause, stopped = 0.002, False
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            _signal(child, signal.SIGKILL)
            return stopped, status
        if not stopped and (asked() or time.monotonic() > end):
            stopped, end = True, time.monotonic() + GRACE
            _signal(child, signal.SIGTERM)
        elif stopped and time.monotonic() > end:
            _signal(child, signal.SIGKILL)
        time.sleep(pause)
        pause = min(0.1, 1.5 * pause)


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)

"""Atomic writes: a file appears complete or not at all."""

import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from esp_core.runtime.errors import naming

DAY = 86_400.0  # seconds


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it to `path` on success, remove it on failure.

    The temporary name keeps the suffix of `path`, from which writers such as matplotlib infer the format. Leftovers of killed processes
    are removed. Raises UserError, naming `path`, if the disk is full, read-only or forbidden.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        temporary = path.with_name(f"{_prefix(path)}{os.getpid()}{path.suffix}")
        try:
            temporary.touch()
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write(path: Path, content: str | bytes) -> None:
    """Write `content` to `path` atomically; text is UTF-8."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def discard(path: Path) -> None:
    """Remove `path` and leftovers of killed processes, if they exist."""
    path.unlink(missing_ok=True)
    sweep(path)


def sweep(path: Path) -> None:
    """Remove temporary files for `path` whose process has ended, or that another machine made more than a day ago."""
    for left in path.parent.glob(f".{escape(path.stem)}-*-*{escape(path.suffix)}"):
        process = left.name.removeprefix(_prefix(path)).removesuffix(path.suffix)
        with suppress(FileNotFoundError):
            is_left = not _is_running(int(process)) if process.isdigit() else time.time() - left.stat().st_mtime > DAY
            if is_left:
                left.unlink()


def reserve(path: Path, size: int) -> None:
    """Allocate `size` bytes of disk for the existing file `path`, so that a full disk raises OSError now.

    After a failed write HDF5 cannot close its file and ends the process.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)


def _prefix(path: Path) -> str:
    """The prefix of names of temporary files for `path` that are made on this machine."""
    return f".{path.stem}-{re.sub(r'[^A-Za-z0-9]', '_', platform.node())}-"


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's process
        pass
    return True

"""A user's mistake gives one line on stderr and exit code 1, never a traceback."""

import errno
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_DISK = {
    errno.ENOSPC: "the disk is full: free some space, then run the same command again",
    errno.EDQUOT: "the disk quota is used up: free some space, then run the same command again",
    errno.EROFS: "the file system is read-only: choose a folder that can be written",
    errno.EACCES: "permission denied: choose a folder or file that you may use",
}
_DEVICE = "end what else runs on the device, lower ESP_GPU_SHARE, or use a device with more memory"


class UserError(Exception):
    """Bad input. The message names the key, file or class, and says what to do."""


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Run `main` as a command line: a UserError, a full or read-only disk, or a full device ends it with one line and exit code 1."""

    @functools.wraps(main)
    def run() -> None:
        try:
            try:
                main()
            finally:
                if sys.stdout:
                    sys.stdout.flush()
        except BrokenPipeError:  # the reader has closed the pipe, as in `… | head -1`
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the rest is flushed again at exit
            sys.exit(141)  # like a program that SIGPIPE kills
        except UserError as error:
            sys.exit(f"error: {error}")
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch's; this module must not import torch
                raise
            sys.exit(f"error: {'. '.join(str(error).split('. ')[:2])}; {_DEVICE}")
        except OSError as error:
            if (advice := advice_for(error)) is None:
                raise
            sys.exit(f"error: {error.filename or 'output'}: {advice}")
        except KeyboardInterrupt:
            sys.exit(130)

    return run


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn a full, read-only or forbidden disk into a UserError that names `path`, since the error of a failed write names no file.

    If the error names a file in another folder, such as one being read, the UserError names that file.
    """
    try:
        yield
    except OSError as error:
        if (advice := advice_for(error)) is None:
            raise
        elsewhere = isinstance(error.filename, str) and Path(error.filename).parent != path.parent
        raise UserError(f"{error.filename if elsewhere else path}: {advice}") from error


def advice_for(error: OSError) -> str | None:
    """What to do about a full, read-only or forbidden disk; None for other errors."""
    if error.errno in _DISK:
        return _DISK[error.errno]
    # h5py raises a plain OSError with the error number in its text.
    return next((advice for number, advice in _DISK.items() if f"errno = {number}," in str(error)), None)

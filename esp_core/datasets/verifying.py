"""SHA-256 of files, and the one line that is said when a file is not the official one."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from esp_core.runtime.errors import UserError


@dataclass(frozen=True)
class File:
    """An official file: its name, its size in bytes and its SHA-256."""

    name: str
    size: int
    sha256: str


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, official: File, remedy: str, name: str = "") -> None:
    """Raise UserError, ending in `remedy`, unless `path`, or `name` to the user, is the `official` file."""
    name = name or str(path)
    if not path.is_file():
        raise UserError(f"{name}: missing; {remedy}")
    if (size := path.stat().st_size) != official.size:
        state = "cut short" if size < official.size else "not the official file"
        raise UserError(f"{name}: {state}, {size:,} bytes where the official file has {official.size:,}; {remedy}")
    if (seen := sha256(path)) != official.sha256:
        raise UserError(f"{name}: altered, SHA-256 {seen[:16]}… where the official file has {official.sha256[:16]}…; {remedy}")

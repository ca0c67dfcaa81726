"""SHA-256 of files, and the one line that is said when a file is not the official one."""

import hashlib
from pathlib import Path

from esp_core.runtime.errors import UserError


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, size: int, digest: str, remedy: str, name: str | None = None) -> None:
    """Raise UserError, ending in `remedy`, unless `path`, or `name` to the user, is a file of `size` bytes with SHA-256 `digest`."""
    name = name or str(path)
    if not path.is_file():
        raise UserError(f"{name}: missing; {remedy}")
    if (actual := path.stat().st_size) != size:
        state = "cut short" if actual < size else "not the official file"
        raise UserError(f"{name}: {state}, {actual:,} bytes where the official file has {size:,}; {remedy}")
    if (seen := sha256(path)) != digest:
        raise UserError(f"{name}: altered, SHA-256 {seen[:16]}… where the official file has {digest[:16]}…; {remedy}")

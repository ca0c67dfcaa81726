"""Official files: their verification, and their list, files.json, which `python -m esp_core download` writes."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esp_core.runtime.errors import UserError

if TYPE_CHECKING:
    from esp_core.datasets.source import Request


@dataclass(frozen=True)
class File:
    """An official file: its name, its size in bytes and its SHA-256."""

    name: str
    size: int
    sha256: str


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, official: File, remedy: str, name: str = "") -> None:
    """Raise UserError, ending in `remedy`, unless `path` is the `official` file. Messages call it `name`, if given."""
    name = name or str(path)
    if not path.is_file():
        raise UserError(f"{name}: missing; {remedy}")
    if (size := path.stat().st_size) != official.size:
        state = "cut short" if size < official.size else "not the official file"
        raise UserError(f"{name}: {state}, {size:,} bytes where the official file has {official.size:,}; {remedy}")
    if (seen := sha256(path)) != official.sha256:
        raise UserError(f"{name}: altered, SHA-256 {seen[:16]}… where the official file has {official.sha256[:16]}…; {remedy}")


def opened(request: "Request") -> tuple[Path, dict[str, Any]]:
    """The folder of the files of `request`, after verifying each again, and their origin.

    Raises UserError if the list or a file is missing or has changed.
    """
    if request.files is None:
        raise UserError(f"dataset {request.dataset}: --files is missing; get the official files with python -m esp_core download")
    try:
        facts = json.loads(request.files.read_text())
        folder = request.files.parent / facts["folder"]
        origin = {key: facts[key] for key in ("from", "verified", "files")}
        members = [File(**member) for member in origin["files"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{request.files}: missing or damaged; make it again with python -m esp_core download") from error
    remedy = f"delete {request.files} and run python -m esp_core download again"
    if not folder.is_dir():
        raise UserError(f"{folder}: missing; {remedy}")
    for member in members:
        verify(folder / member.name, member, remedy)
    return folder, origin

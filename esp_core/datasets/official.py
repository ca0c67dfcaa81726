"""The list of official files, files.json, as `python -m esp_core download` leaves it and as readers open it.

It holds facts about the files alone, no time and no version, so that a repeated download changes nothing below it.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esp_core.datasets.verifying import File, verify
from esp_core.runtime import files
from esp_core.runtime.errors import UserError

if TYPE_CHECKING:
    from esp_core.datasets.source import Request


def opened(request: "Request") -> tuple[Path, dict[str, Any]]:
    """The folder of the files of `request`, each one verified again, and where they came from.

    Raises UserError where the list or a file is missing or has changed.
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


def write(path: Path, facts: dict[str, Any], folder: Path) -> None:
    """Write files.json. A folder beneath the one of `path` is recorded relative to it, so that both can be moved together."""
    parent, folder = path.parent.resolve(), folder.resolve()
    place = folder.relative_to(parent) if folder.is_relative_to(parent) else folder
    files.write(path, json.dumps({**facts, "folder": str(place)}, indent=2) + "\n")

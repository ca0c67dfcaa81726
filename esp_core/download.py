"""Stage: get a dataset's official files, verify them, and list them in files.json.

    python -m esp_core.download --spec '{"dataset":"cifar10","kind":"cifar10","mirror":null}' --out results/downloads/cifar10/files.json

A mirror, from the spec or else the environment variable ESP_MIRROR, is a URL or a local folder that holds the official archive or
the unpacked official files. What a folder holds unpacked is read in place; everything else is kept beside files.json.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from esp_core.datasets import official
from esp_core.datasets.catalogue import ENTRIES, Archive, Entry, is_official
from esp_core.datasets.fetching import NotServed, fetch
from esp_core.datasets.unpacking import unpack
from esp_core.datasets.verifying import sha256, verify
from esp_core.errors import UserError, command, naming


def download(spec: dict[str, Any], out: Path) -> None:
    """Get, verify and list the files of the kind that `spec` names. Raises UserError; then `out` is not written."""
    if not is_official(spec["kind"]):
        kinds = ", ".join(kind for kind in ENTRIES if is_official(kind))
        raise UserError(f"dataset {spec['dataset']}: kind {spec['kind']} is not downloaded; only {kinds} are")
    entry = ENTRIES[spec["kind"]]
    mirror = spec["mirror"] or os.environ.get("ESP_MIRROR") or None
    source = mirror or entry.url
    local = _local(source)
    place = _from_folder(local, spec["kind"], entry, out.parent) if local else _from_server(source, entry, out.parent)
    remedy = f"get {entry.archive.name if entry.archive else 'the file'} again from {entry.homepage}"
    for member in entry.members:
        verify(place / member.name, member.size, member.sha256, remedy)
    facts = {
        "dataset": spec["dataset"],
        "kind": spec["kind"],
        "from": source,
        "verified": "members" if entry.members else "archive" if place.parent == out.parent else "nothing",
        "files": [{"name": member.name, "size": member.size, "sha256": member.sha256} for member in entry.members],
    }
    with naming(out):
        official.write(out, facts, place)


def _local(source: str) -> Path | None:
    """The folder that `source` names, or None for a server."""
    parts = urlsplit(source)
    if parts.scheme in ("http", "https"):
        return None
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else Path(source).expanduser()


def _from_folder(mirror: Path, kind: str, entry: Entry, out: Path) -> Path:
    """The folder of unpacked files in a local mirror, or where its archive was unpacked."""
    places = [mirror, mirror / kind]
    first = entry.members[0].name if entry.members else "wnids.txt"
    for place in places:
        if (place / entry.folder / first).is_file():
            return place / entry.folder
    for place in places:
        if entry.archive and (place / entry.archive.name).is_file():
            return _unpacked(place / entry.archive.name, entry.archive, entry, out)
    wanted = " nor ".join(filter(None, [entry.archive and entry.archive.name, f"{entry.folder}/{first}".lstrip("/")]))
    raise UserError(f"mirror {mirror}: holds neither {wanted}, here or in {kind}/; put one there or name another mirror")


def _from_server(source: str, entry: Entry, out: Path) -> Path:
    """Fetch the archive, or the members where there is none, and return the folder of the members."""
    if entry.archive is None:
        return _members(source, entry, out)
    path = out / entry.archive.name
    try:
        if not (path.is_file() and sha256(path) == entry.archive.sha256):
            fetch(f"{source.rstrip('/')}/{path.name}", path)
    except NotServed:
        if source == entry.url or not entry.members:
            raise
        return _members(source, entry, out / entry.folder)
    try:
        return _unpacked(path, entry.archive, entry, out)
    except UserError:
        path.unlink()
        raise


def _members(source: str, entry: Entry, folder: Path) -> Path:
    base = "/".join(filter(None, [source.rstrip("/"), entry.folder]))
    for member in entry.members:
        path = folder / member.name
        if path.is_file() and sha256(path) == member.sha256:
            continue
        fetch(f"{base}/{member.name}", path)
        try:
            verify(path, member.size, member.sha256, "run the same command again, or give another mirror")
        except UserError:
            path.unlink()
            raise
    return folder

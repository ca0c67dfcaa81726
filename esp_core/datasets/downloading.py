"""Get a dataset's official files from its server, a mirror or a folder, verify them, and list them in files.json."""

import json
import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from esp_core.datasets.catalogue import ENTRIES, Entry, is_official
from esp_core.datasets.fetching import NotServedError, fetch
from esp_core.datasets.official import sha256, verify
from esp_core.runtime import files
from esp_core.runtime.errors import UserError, naming

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError)


def download(spec: dict[str, Any], out: Path) -> None:
    """Get and verify the files of the kind that `spec` names, and list them in `out`. On a UserError `out` is not written.

    The list holds facts about the files only, no time or version, so that a repeated download changes nothing downstream.
    """
    kind = spec["kind"]
    if not is_official(kind):
        kinds = ", ".join(kind for kind in ENTRIES if is_official(kind))
        raise UserError(f"dataset {spec['dataset']}: kind {kind} is not downloaded; only {kinds} are")
    entry = ENTRIES[kind]
    source = spec["mirror"] or os.environ.get("ESP_MIRROR") or entry.url
    local = _local(source)
    folder, verified = _from_folder(local, kind, entry, out.parent) if local else _from_server(source, entry, out.parent)
    if verified == "nothing":
        print(f"{spec['dataset']}: {folder} is used as it is, no checksums of its files are on record", file=sys.stderr)
    here, folder = out.parent.resolve(), folder.resolve()
    facts = {
        "dataset": spec["dataset"],
        "kind": kind,
        "from": source,
        "verified": verified,
        "files": [asdict(member) for member in entry.members],
        "folder": str(folder.relative_to(here) if folder.is_relative_to(here) else folder),  # so that both can be moved together
    }
    files.write(out, json.dumps(facts, indent=2) + "\n")


def _local(source: str) -> Path | None:
    """The folder that `source` names; None for a server."""
    parts = urlsplit(source)
    if parts.scheme in ("http", "https"):
        return None
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else Path(source).expanduser()


def _from_folder(mirror: Path, kind: str, entry: Entry, out: Path) -> tuple[Path, str]:
    """The folder with the official files in a local mirror, or where its archive was unpacked; and what was verified."""
    first = PurePosixPath(entry.folder, entry.members[0].name if entry.members else "wnids.txt")
    for place in (mirror, mirror / kind):
        if (place / first).is_file():
            _verify_members(place / entry.folder, entry)
            return place / entry.folder, "members" if entry.members else "nothing"
        if entry.archive and (place / entry.archive.name).is_file():
            return _unpacked(place / entry.archive.name, entry, out, repacked=True)
    wanted = f"{entry.archive.name} nor {first}" if entry.archive else first
    raise UserError(f"mirror {mirror}: holds no {wanted}, itself or in {kind}/; put one there or name another mirror")


def _from_server(source: str, entry: Entry, out: Path) -> tuple[Path, str]:
    """As `_from_folder`, for a server: fetch the archive or, if there is none, the members."""
    if entry.archive is None:
        return _fetch_members(source, entry, out)
    path = out / entry.archive.name
    try:
        if not (path.is_file() and sha256(path) == entry.archive.sha256):
            fetch(f"{source.rstrip('/')}/{path.name}", path)
    except NotServedError:
        if source == entry.url or not entry.members:
            raise
        return _fetch_members(source, entry, out)
    try:
        return _unpacked(path, entry, out, repacked=source != entry.url)
    except UserError:
        if sha256(path) != entry.archive.sha256:
            path.unlink()
        raise


def _fetch_members(source: str, entry: Entry, out: Path) -> tuple[Path, str]:
    folder = out / entry.folder
    for member in entry.members:
        path = folder / member.name
        if path.is_file() and sha256(path) == member.sha256:
            continue
        fetch("/".join(filter(None, [source.rstrip("/"), entry.folder, member.name])), path)
        try:
            verify(path, member, "run the same command again, or give another mirror")
        except UserError:
            path.unlink()
            raise
    return folder, "members"


def _unpacked(path: Path, entry: Entry, out: Path, repacked: bool) -> tuple[Path, str]:
    """Unpack below `out`, completely or not at all; replaces an older folder.

    A `repacked` archive may differ from the official one if its members can be verified, and only members are unpacked. Without members,
    everything except the unlabelled test images of TinyImageNet is unpacked.
    """
    remedy, folder = _remedy(entry), out / entry.folder
    if entry.archive and not (repacked and entry.members):
        verify(path, entry.archive, remedy)
    names = {f"{entry.folder}/{member.name}" for member in entry.members}

    def wanted(name: str) -> bool:
        return name in names if names else name.startswith(f"{entry.folder}/") and not name.startswith(f"{entry.folder}/test/")

    with naming(folder):
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=out) as temporary:
            new = Path(temporary) / folder.name
            unpack(path, Path(temporary), wanted, remedy)
            if not new.is_dir():
                raise UserError(f"{path}: not the expected archive, it holds no {folder.name}/ with the official files; {remedy}")
            _verify_members(new, entry, f"{path}: ")
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)
    return folder, "members" if entry.members else "archive"


def unpack(archive: Path, place: Path, wanted: Callable[[str], bool], remedy: str) -> None:
    """Write those files of a zip or tar (any compression) whose names `wanted` accepts to `place`. Links and outside paths are refused.

    Raises UserError, ending in `remedy`, for a damaged archive.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as content:
                content.extractall(place, [name for name in content.namelist() if wanted(name) and not name.endswith("/")])
        else:
            with tarfile.open(archive) as content:
                chosen = [member for member in content if member.isfile() and wanted(str(PurePosixPath(member.name)))]
                content.extractall(place, chosen, filter="data")
    except DAMAGED as error:
        if getattr(error, "errno", None):  # an error of the system, such as a full disk
            raise
        raise UserError(f"{archive}: damaged or cut short ({type(error).__name__}); {remedy}") from error


def _verify_members(folder: Path, entry: Entry, archive: str = "") -> None:
    for member in entry.members:
        verify(folder / member.name, member, _remedy(entry), archive and f"{archive}{member.name}")


def _remedy(entry: Entry) -> str:
    return f"get {entry.archive.name if entry.archive else 'the file'} again from {entry.homepage}"

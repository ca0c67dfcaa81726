"""Checks every byte of stored experts."""

from pathlib import Path

from esp_core.runtime.errors import UserError
from esp_core.trajectories import manifest, reader


def verify(path: Path) -> list[str]:
    """The problems of a shard, or of all shards of a manifest, one line each; empty if there are none."""
    if path.suffix != ".json":
        return _problem(path, None)
    return [line for entry in reader.load(path)["shards"] for line in _problem(path.parent / entry["file"], entry["sha256"])]


def _problem(path: Path, listed: str | None) -> list[str]:
    """The problems of a shard whose SHA-256 the manifest lists as `listed`."""
    try:
        found = manifest.whole(path)
    except UserError as error:
        return [str(error)]
    return [] if listed in (None, found) else [f"{path}: not the shard that the manifest lists; {reader.REBUILD}"]

"""Checking every byte of stored experts."""

from pathlib import Path

from esp_core.runtime.errors import UserError
from esp_core.trajectories import manifest
from esp_core.trajectories.codec import standing
from esp_core.trajectories.seal import REBUILD
from esp_core.trajectories.shard import Shard


def verify(path: Path) -> list[str]:
    """What is wrong with a shard or with all shards of a manifest, one line each; empty where all is well.

    Every byte counts: the seal covers what is beside the experts, and an expert's digest is made again. Neighbouring snapshots must differ.
    """
    if path.suffix != ".json":
        return _shard(path)
    listed = manifest.load(path)
    return [line for entry in listed["shards"] for line in _listed(path.parent / entry["file"], entry, listed["spec"])]


def _listed(path: Path, entry: dict[str, object], spec: dict[str, object]) -> list[str]:
    found = _shard(path)
    if found:
        return found
    shard = Shard(path)
    try:
        manifest.check_spec(shard, spec)
    except UserError as error:
        return [str(error)]
    if shard.digest != entry["digest"]:
        return [f"{path}: its experts are not those that the manifest lists; run the same command again: only the manifest is made anew"]
    return []


def _shard(path: Path) -> list[str]:
    try:
        return [f"{path}: {problem}; {REBUILD}" for problem in problems(Shard(path))]
    except UserError as error:
        return [str(error)]


def problems(shard: Shard) -> list[str]:
    """What is wrong with a shard's content, the expert named."""
    found = []
    for row, expert in enumerate(shard.experts):
        name = f"expert {shard.first + row}"
        if expert.digest() != shard.digests[row]:
            found.append(f"{name}: its digest differs: bytes have changed since it was written")
        elif (still := standing(expert.columns)) is not None:
            found.append(f"{name}: snapshots {still} and {still + 1} are equal")
    return found

"""The manifest of a study's experts: their spec, and the location, digest and accuracy of each. Methods open the manifest."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py

from esp_core.runtime import files
from esp_core.runtime.errors import UserError
from esp_core.study.provenance import canonical, digest
from esp_core.trajectories import store
from esp_core.trajectories.reader import FORMAT, REBUILD, difference, head_of

FACTS = ("spec", "code", "data", "layout", "engine")
LISTED = ("digest", "scale", "accuracy", "seconds")


class Shard:
    """The metadata of a complete shard (`facts`) and of each of its experts (`experts`), and the offset of its steps."""

    def __init__(self, path: Path):
        """Reads every byte. Raises UserError for a file that is missing, has changed or is not a shard."""
        self.path, self.sha256 = path, whole(path)
        try:
            with h5py.File(path, "r") as file:
                self.facts = {name: json.loads(file.attrs[name]) for name in FACTS}
                columns = [file[name].asstr()[:] if name == "digest" else file[name][:].tolist() for name in LISTED]
                self.snapshots: int = file["steps"].shape[1]
                self.offset: int = file["steps"].id.get_offset()
        except Exception as error:  # h5py passes on any error of the HDF5 library
            raise UserError(f"{path}: not a shard of expert trajectories ({type(error).__name__}: {error}); {REBUILD}") from error
        self.first: int = self.facts["spec"]["first"]
        self.experts = [dict(zip(LISTED, row, strict=True), expert=self.first + i) for i, row in enumerate(zip(*columns, strict=True))]


def build(path: Path, spec: dict[str, Any], shards: Sequence[Path]) -> dict[str, Any]:
    """Write the manifest of `shards`, which together hold the experts 0 .. spec["total"] - 1; return it.

    Raises UserError naming a shard that is damaged, missing, or of another study, data or network.
    """
    opened = sorted((Shard(shard) for shard in shards), key=lambda shard: shard.first)
    if not opened:
        raise UserError(f"{path}: no shards were given; give them with --shards")
    common = {key: opened[0].facts[key] for key in ("code", "data", "layout")}
    expected = 0
    for shard in opened:
        _check(shard, spec, common)
        if shard.first != expected:
            raise UserError(f"{path}: expert {expected} is in no shard or in two: {shard.path.name} begins with {shard.first}; {REBUILD}")
        expected += len(shard.experts)
    if expected != spec["total"]:
        raise UserError(f"{path}: the shards hold {expected} experts, the study has {spec['total']}; give all of its shards with --shards")
    manifest = {"format": FORMAT, "spec": spec, **common, "snapshots": opened[0].snapshots, "shards": [_entry(shard) for shard in opened]}
    manifest["experts"] = [expert for shard in opened for expert in shard.experts]
    manifest["digest"] = digest(canonical(manifest))
    files.write(path, json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n")
    return manifest


def whole(path: Path) -> str:
    """The SHA-256 in the header of a shard. Raises UserError if the file is missing, is not a shard, or has another SHA-256."""
    head = head_of(path)
    if not head.startswith(store.FORMAT.encode()):
        raise UserError(f"{path}: not a shard of expert trajectories of this version; {REBUILD}")
    if head != store.head(found := store.body_digest(path)):
        raise UserError(f"{path}: truncated or changed since it was written; {REBUILD}")
    return found


def _check(shard: Shard, spec: dict[str, Any], common: dict[str, Any]) -> None:
    """Raise UserError if a shard was not made for `spec`, or was made with other data or code than the first one.

    Engines may differ; the manifest lists each.
    """
    theirs = {key: value for key, value in shard.facts["spec"].items() if key not in ("first", "count")}
    ours = {key: value for key, value in spec.items() if key not in ("total", "shard")}
    for made, wanted, owner in ((theirs, ours, "this study"), ({key: shard.facts[key] for key in common}, common, "the first shard")):
        if found := difference(made, wanted):
            raise UserError(f"{shard.path}: made with {found[0]} {found[1]!s:.60}, {owner} has {found[2]!s:.60}; {REBUILD}")


def _entry(shard: Shard) -> dict[str, Any]:
    return {
        "file": shard.path.name,
        "first": shard.first,
        "count": len(shard.experts),
        "bytes": shard.path.stat().st_size,
        "sha256": shard.sha256,
        "offset": shard.offset,
        "engine": shard.facts["engine"],
    }

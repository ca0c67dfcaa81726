"""The manifest of a study's experts: what they are, where each lies, its digest and accuracy. It is what methods open."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esp_core.runtime import files
from esp_core.runtime.errors import UserError
from esp_core.trajectories.seal import REBUILD
from esp_core.trajectories.shard import Shard
from esp_core.trajectories.store import groups

FORMAT = "esp-manifest-1"
PLACE = ("first", "count")  # the keys of a shard's spec that say which experts it holds


def build(path: Path, spec: dict[str, Any], shards: Sequence[Path]) -> dict[str, Any]:
    """Write the manifest of `shards`, which together hold the experts 0 .. spec["total"] - 1; return it.

    Raises UserError naming the shard that is damaged, of another study, data or network, or missing.
    """
    opened = sorted((Shard(shard) for shard in shards), key=lambda shard: shard.first)
    if not opened:
        raise UserError(f"{path}: no shards were given; give them with --shards")
    for shard in opened:
        check_spec(shard, spec)
        check_kin(shard, opened[0])
    _check_complete(path, spec["total"], opened)
    manifest = {
        "format": FORMAT,
        "spec": spec,
        "code": opened[0].header["code"],
        "data": opened[0].header["data"],
        "layout": opened[0].layout,
        "parameters": int(groups(opened[0].layout).sum()),
        "snapshots": opened[0].shape[1],
        "shards": [_entry(shard) for shard in opened],
        "experts": [expert for shard in opened for expert in _experts(shard)],
    }
    files.write(path, json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n")
    return manifest


def load(path: Path) -> dict[str, Any]:
    """The manifest at `path`. Raises UserError where it is missing or is something else."""
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such manifest; make it with python -m esp_core experts manifest") from None
    except ValueError as error:
        raise UserError(f"{path}: not a manifest ({error}); delete it and run the same command again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path}: not a manifest of expert trajectories of this version; delete it and run the same command again")
    layout = manifest.get("layout")
    if not isinstance(layout, list) or not all(isinstance(entry, list) and len(entry) == 2 for entry in layout):
        raise UserError(f"{path}: damaged, its layout is no list of names and shapes; delete it and run the same command again")
    return manifest


def check_spec(shard: Shard, spec: dict[str, Any]) -> None:
    """Raise UserError where a shard was made for something else than `spec`, a manifest's."""
    theirs = _flat({key: value for key, value in shard.header["spec"].items() if key not in PLACE})
    ours = _flat({key: value for key, value in spec.items() if key not in ("total", "shard")})
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) != ours.get(key):
            raise UserError(f"{shard.path}: made with {key} {theirs.get(key)}, this study has {ours.get(key)}; {REBUILD}")


def check_use(path: Path, manifest: dict[str, Any], spec: dict[str, Any], data: str) -> None:
    """Raise UserError where the experts of `manifest` are not those that the distillation `spec` asks for, on data of digest `data`."""
    total = {"total": manifest["spec"]["total"]}
    theirs = _flat({**{key: manifest["spec"][key] for key in ("dataset", "network")}, "experts": total})
    ours = _flat({**{key: spec[key] for key in ("dataset", "network")}, "experts": spec.get("experts") or total})
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) != ours.get(key):
            raise UserError(f"{path}: experts of {key} {theirs.get(key)}, this job has {ours.get(key)}; give the experts that it asks for")
    if manifest["data"] != data:
        raise UserError(f"{path}: its experts were trained on other data ({manifest['data']}) than these ({data}); train them on these")


def check_kin(shard: Shard, other: Shard) -> None:
    """Raise UserError where two shards differ in data, code or parameter layout. Their engines may differ; each is listed."""
    for key in ("data", "code", "layout"):
        if shard.header[key] != other.header[key]:
            raise UserError(
                f"{shard.path}: its {key} ({_short(shard.header[key])}) is not that of {other.path.name} "
                f"({_short(other.header[key])}); delete the older one and run the same command again"
            )


def _check_complete(path: Path, total: int, shards: Sequence[Shard]) -> None:
    expected = 0
    for shard in shards:
        if shard.first != expected:
            raise UserError(f"{path}: expert {expected} is in no shard or in two: {shard.path.name} begins with {shard.first}; {REBUILD}")
        expected += len(shard)
    if expected != total:
        raise UserError(f"{path}: the shards hold {expected} experts, the study has {total}; give all of its shards with --shards")


def _entry(shard: Shard) -> dict[str, Any]:
    return {
        "file": shard.path.name,
        "first": shard.first,
        "count": len(shard),
        "bytes": shard.path.stat().st_size,
        "digest": shard.digest,
        "engine": shard.header["engine"],
    }


def _experts(shard: Shard) -> list[dict[str, Any]]:
    return [
        {
            "expert": shard.first + row,
            "digest": shard.digests[row],
            "accuracy": round(float(expert.accuracy), 4),
            "seconds": round(float(expert.seconds), 3),
        }
        for row, expert in enumerate(shard.experts)
    ]


def _flat(spec: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"training": {"lr": 1}} -> {"training.lr": 1}."""
    flat: dict[str, Any] = {}
    for key, value in spec.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."

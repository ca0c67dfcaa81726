"""Condensing one's own arrays from Python, without Snakemake. The stages do the work; their files stay in a folder."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from esp_core import methods
from esp_core.condensed import Condensed, load_condensed
from esp_core.errors import UserError
from esp_core.provenance import canonical, digest

EXPERTS = {
    "epochs": 50,
    "lr": 0.01,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "batch": 256,
    "zca": False,
    "precision": "auto",
}  # Section 4.2; MTT


def condense(
    images: ArrayLike,
    labels: ArrayLike,
    *,
    method: str = "esp",
    ipc: int = 1,
    folder: str | Path = "condensed",
    network: dict[str, Any] | None = None,
    experts: int = 10,
    training: dict[str, Any] | None = None,
    flip: bool = True,
    seed: int = 0,
    device: str = "auto",
    **recipe: Any,
) -> Condensed:
    """Condense uint8 images (n, C, H, W) with labels (n,), 0 to classes - 1, into `ipc` images' worth of numbers a class.

    `folder` receives the prepared data, the experts and the set, and is read again by the next call: experts made once serve
    every IPC and method. `network` is ConvNet-3 of width 128 by default; `experts` how many are trained where the method
    needs any, by the recipe of Section 4.2 with the changes of `training`; `flip=False` where a mirrored image is another
    class; further keywords change the method's recipe, such as iterations=500 or teacher={"start_max": 4}. Raises UserError.
    """
    folder = Path(folder)
    network = {"name": "convnet3", **(network or {})}
    custom = {method: recipe}
    resolved = methods.recipe(method, "mine", ipc, custom=custom, flip=flip)
    common = {"study_seed": seed, "dataset": "mine", "network": network, "device": device}
    data = _prepared(images, labels, folder, seed)
    manifest = None
    if methods.uses_experts(resolved):
        settings = {**EXPERTS, "augment": methods.strategy("dsa", flip), **(training or {})}
        spec = {**common, "training": settings, "keep": settings["epochs"] + 1}
        manifest = _experts(spec, experts, data, folder)
    spec = {**common, "ipc": ipc, "method": method, "recipe": resolved, "experts": {"total": experts} if manifest else None}
    out = folder / f"ipc-{ipc}" / f"{method}-{digest(canonical(spec))}.safetensors"
    if not out.exists():
        from esp_core import distill

        distill.run(spec, data, manifest, out)
    return load_condensed(out)


def _prepared(images: ArrayLike, labels: ArrayLike, folder: Path, seed: int) -> Path:
    from esp_core import files
    from esp_core.prepare import prepare

    pixels, names = np.asarray(images), np.asarray(labels)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise UserError(f"images: {pixels.dtype} {pixels.shape}; give uint8 (n, C, H, W) with one or three channels")
    content = digest(pixels.tobytes() + names.tobytes())
    out, source = folder / f"data-{content}.h5", folder / f"data-{content}.npz"
    if not out.exists():
        with files.replacing(source) as temporary:
            np.savez(temporary, images=np.ascontiguousarray(pixels), labels=names.astype(np.int64))
        # The images are all for training: what tests the set is the caller's to keep apart.
        options = {"path": str(source), "layout": "NCHW", "test_images": "images", "test_labels": "labels"}
        prepare({"dataset": "mine", "kind": "npz", "options": options, "study_seed": seed}, out)
        source.unlink()
    return out


def _experts(spec: dict[str, Any], count: int, data: Path, folder: Path) -> Path:
    from esp_core.provenance import source_digest
    from esp_core.trajectories import manifest
    from esp_core.trajectories.producing import produce

    place = folder / f"experts-{digest(canonical([spec, count, data.name]))}"
    out = place / "manifest.json"
    if not out.exists():
        shard = place / "shard-000.h5"
        if not shard.exists():
            produce({**spec, "first": 0, "count": count}, source_digest("esp_core.experts"), data, shard)
        manifest.build(out, {**spec, "total": count, "shard": count}, [shard])
    return out

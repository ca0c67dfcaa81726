"""Condensing one's own arrays from Python, without Snakemake: a study of one cell, checked as any other, whose stages run here."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from esp_core.distillation.condensed import Condensed, load_condensed
from esp_core.runtime import files
from esp_core.runtime.errors import UserError
from esp_core.study import jobcode, methods, specs
from esp_core.study.config import Study
from esp_core.study.provenance import canonical, digest, source_digest

NAME = "mine"
EPOCHS = 50  # of the experts, MTT's


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
    whiten: str | None = None,
    seed: int = 0,
    device: str = "auto",
    classes: Sequence[str] | None = None,
    out: str | Path | None = None,
    **recipe: Any,
) -> Condensed:
    """Condense uint8 images (n, C, H, W) with labels (n,), 0 to classes - 1, into `ipc` images' worth of numbers a class.

    `folder` receives the prepared data, the experts and the set, and is read again by the next call: experts made once serve
    every IPC and method. `network` is ConvNet-3 of width 128 by default; `experts` how many are trained where the method
    needs any, by the recipe of Section 4.2 with the changes of `training`; `flip=False` where a mirrored image is another
    class; `whiten="zca"` where they are to be whitened; `classes` are their names, numbers without it; `out` is a file to which the
    set is written too. Further keywords change the method's recipe, such as iterations=500 or teacher={"start_max": 4}. Raises
    UserError, a line for each mistake, before anything is written.
    """
    if not isinstance(method, str) or method == methods.FULL:
        raise UserError(f"method: {method!r} condenses nothing; use one of {', '.join(methods.names())}, or a name of yours with base=")
    own = methods.merge({"name": "convnet3"}, network or {})
    config = {
        "study": NAME,
        "seed": seed,
        "device": device,
        "datasets": {NAME: {"kind": "npz", "ipc": [ipc], "flip": flip, "whiten": whiten, "options": {"path": NAME}}},
        "distill_network": own,
        "networks": [own["name"]] if isinstance(own, Mapping) else [],
        "experts": _training(training, experts),
        "methods": {method: recipe},
    }
    study = _study(config, method)
    pixels, targets, numbers = _arrays(images, labels)
    names = numbers if classes is None else tuple(map(str, classes))
    if len(names) != len(numbers):
        raise UserError(f"classes: {len(names)} names for {len(numbers)} classes; give one for each")
    made = _run(study, (NAME, str(ipc), method), (pixels, targets, names), Path(folder))
    if out is not None:
        files.write(Path(out), made.read_bytes())
    return load_condensed(made)


def _training(changes: Any, count: Any) -> Any:
    """The section `experts`: all of them in one shard."""
    if isinstance(changes, Mapping) and (wrong := {"count", "shard"} & changes.keys()):
        raise UserError(f"training.{min(wrong)}: unknown key; give their number as experts=")
    return methods.merge({"epochs": EPOCHS, "count": count, "shard": count}, changes or {})


def _study(config: dict[str, Any], method: str) -> Study:
    """The study of `config`. Raises UserError whose lines name the arguments of `condense`."""
    named = (
        (f"datasets.{NAME}.ipc[0]", "ipc"),
        (f"datasets.{NAME}.", ""),
        (f"methods.{method}.", ""),
        ("distill_network", "network"),
        ("experts.count", "experts"),
        ("experts.", "training."),
    )
    try:
        return Study(json.loads(json.dumps(config, default=_plain)))
    except UserError as error:
        lines = [line for line in str(error).splitlines() if not line.startswith(("experts.shard", "networks"))]
        for key, argument in named:
            lines = [argument + line.removeprefix(key) if line.startswith(key) else line for line in lines]
        raise UserError("\n".join(lines)) from None


def _plain(value: Any) -> Any:
    """A number of NumPy's as Python's own."""
    if isinstance(value, np.generic):
        return value.item()
    raise UserError(f"{value!r} of type {type(value).__name__}: a setting is text, a number, a list or a mapping")


def _arrays(images: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    """Images, labels and the names of the classes. Raises UserError for other types and shapes, and labels with gaps."""
    from esp_core.datasets.source import numbered

    pixels, targets = _array("images", images), _array("labels", labels)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or 0 in pixels.shape:
        raise UserError(f"images: {pixels.dtype} {pixels.shape}; give uint8 (n, C, H, W) with one or three channels")
    if targets.dtype.kind not in "iu" or targets.shape != pixels.shape[:1]:
        raise UserError(f"labels: {targets.dtype} {targets.shape}; give a whole number for each of the {len(pixels)} images, from 0 on")
    if targets.min() < 0:
        raise UserError(f"labels: {targets.min()} is negative; number the classes from 0 without gaps")
    return pixels, targets.astype(np.int64), numbered(targets.astype(np.int64), "labels")


def _array(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name}: no array ({' '.join(str(error).split())}); give one of NumPy's, or a tensor on the CPU") from None


def _run(study: Study, cell: tuple[str, str, str], arrays: tuple[Any, Any, tuple[str, ...]], folder: Path) -> Path:
    """Try, prepare, train experts and distil, as far as `folder` lacks it. A file's name holds all that its content depends on."""
    from esp_core.runtime import devices
    from esp_core.stages import distill, trial

    pixels, targets, classes = arrays
    _, channels, size, _ = pixels.shape
    trial.check(specs.spec(study, "trial", NAME), trial.Facts("images", classes, channels, size, np.bincount(targets).tolist()))
    devices.pick(study.config["device"])
    data = _prepared(pixels, targets, classes, folder, study.datasets[NAME]["whiten"])
    manifest = _experts(study, data, folder) if study.uses_experts(cell[0], int(cell[1]), cell[2]) else None
    spec, code = specs.spec(study, "distill", *cell), jobcode.code(study, "distill", *cell)
    made_of = digest(canonical([spec, code, data.name, manifest.parent.name if manifest else None]))
    out = folder / f"ipc-{cell[1]}" / f"{cell[2]}-{made_of}.safetensors"
    if not out.exists():
        distill.run(spec, data, manifest, out, code, study.config["device"])
    return out


def _prepared(pixels: NDArray[np.uint8], targets: NDArray[np.int64], classes: tuple[str, ...], folder: Path, whiten: str | None) -> Path:
    """The images as a prepared dataset, all of them for training: what tests the set is the caller's to keep apart."""
    from esp_core.datasets import store
    from esp_core.datasets.source import Part, Source

    code = source_digest("esp_core.datasets.store")
    content = [code, pixels.shape, list(classes), digest(pixels.tobytes()), digest(targets.tobytes()), whiten]
    out = folder / f"data-{digest(canonical(content))}.h5"
    if not out.exists():
        part = Part("images", pixels, targets)
        store.write(out, NAME, Source(classes, part, part, {"from": "arrays"}), {"code": code}, whiten=whiten)
    return out


def _experts(study: Study, data: Path, folder: Path) -> Path:
    from esp_core.trajectories import manifest
    from esp_core.trajectories.producing import produce

    spec, code = specs.spec(study, "experts", NAME, "0"), jobcode.code(study, "experts", NAME, "0")
    place = folder / f"experts-{digest(canonical([spec, code, data.name]))}"
    out, shard = place / "manifest.json", place / "shard-000.h5"
    if not out.exists():
        if not shard.exists():
            produce(spec, code, data, shard, study.config["device"])
        manifest.build(out, specs.spec(study, "manifest", NAME), [shard])
    return out

"""Condense images and evaluate condensed sets from Python, without Snakemake: a study of one cell, checked like any other, and run here."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset as TorchDataset

from esp_core.datasets import Dataset, Split, catalogue, given, load
from esp_core.datasets.normalisation import Normalisation
from esp_core.datasets.source import check_labels, numbered
from esp_core.distillation.condensed import Condensed, check_data, load_condensed
from esp_core.parametrisations import Task
from esp_core.runtime import devices, files
from esp_core.runtime.errors import UserError
from esp_core.study import code_digest, job_specs, methods
from esp_core.study.config import Study
from esp_core.study.provenance import canonical, digest, source_digest

NAME = "mine"
EPOCHS = 50  # of the experts, MTT's
# The beginnings of a study's keys, and the arguments that they come from.
RENAMED = (
    (f"datasets.{NAME}.ipc[0]", "ipc"),
    (f"datasets.{NAME}.", ""),
    ("distill_network", "network"),
    ("experts.count", "experts"),
    ("experts.", "training."),
)


def condense(
    images: "ArrayLike | TorchDataset[Any]",
    labels: ArrayLike | None = None,
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
    """Condense uint8 images (n, C, H, W) with labels (n,), 0 to classes - 1, into the numbers of `ipc` images per class.

    Instead of both, give a map-style torch Dataset of pairs of an image (a picture, or (C, H, W) uint8 or in [0, 1]) and a label. `folder`
    stores the prepared data, the experts and the set for later calls: experts serve every IPC and method, and a larger `experts` trains
    only the missing ones. `network` is ConvNet-3 of width 128 by default. `experts` is how many to train if the method needs any, by the
    recipe of Section 4.2 as changed by `training`. Set `flip=False` if a mirrored image is of another class, and `whiten="zca"` to whiten.
    `classes` are class names, by default the Dataset's, or numbers. `out` is a file for a copy of the set. Further keywords change the
    method's recipe, such as iterations=500 or teacher={"start_max": 4}. Raises UserError, a line per mistake, before anything is written.
    """
    if not isinstance(method, str) or method == methods.FULL:
        raise UserError(f"method: {method!r} condenses nothing; use one of {', '.join(methods.names())}, or a name of yours with base=")
    own = methods.merge({"name": "convnet3"}, network or {})
    tested = own["name"] if isinstance(own, Mapping) else "convnet3"
    config = {
        "study": NAME,
        "seed": seed,
        "device": device,
        "datasets": {NAME: {"kind": "npz", "ipc": [ipc], "flip": flip, "whiten": whiten, "options": {"path": NAME}}},
        "distill_network": own,
        "networks": [tested],
        "experts": _training(training, experts),
        "methods": {method: recipe},
    }
    study = _study(config, ((f"methods.{method}.", ""), (f"networks.{tested}", "network"), *RENAMED))
    pixels, targets, named = given.images_and_labels(images, labels)
    numbers = numbered(targets, "labels")
    names = (named or numbers) if classes is None else tuple(map(str, classes))
    if len(names) != len(numbers):
        raise UserError(f"classes: {len(names)} names for {len(numbers)} classes; give one for each")
    made = _run(study, (NAME, str(ipc), method), (pixels, targets, names), Path(folder))
    if out is not None:
        files.write(Path(out), made.read_bytes())
    return load_condensed(made)


def evaluate(
    condensed: Condensed | str | Path | tuple[ArrayLike, ArrayLike],
    test_images: "ArrayLike | TorchDataset[Any] | Dataset | str | Path",
    test_labels: ArrayLike | None = None,
    *,
    network: str | dict[str, Any] = "convnet3",
    protocol: str = "dsa",
    seeds: int = 5,
    seed: int = 0,
    device: str = "auto",
    flip: bool | None = None,
    **changes: Any,
) -> pd.DataFrame:
    """Train `network` on a condensed set, once per seed, and test it. Returns the workflow's rows (`stages.evaluate.COLUMNS`).

    `condensed` is a set, its file, or a pair: images (n, C, H, W), uint8 or in [0, 1], and labels (n,) or soft labels (n, K). Test images
    are such arrays with labels (n,), a torch Dataset as for `condense`, or a prepared dataset or its file. They are normalised like the
    set; for a pair, like the prepared dataset, else by the pair's own mean and standard deviation. `network` is a name or a mapping with
    settings; the network that the set was made with keeps its settings. `flip`: whether a mirrored image is of the same class; known for
    named datasets, else true. Further keywords change the protocol or how it runs, such as epochs=300 or precision="float32". Accuracies
    are in percent and equal the workflow's at the study seed `seed`. Raises UserError.
    """
    from esp_core.stages.evaluate import COLUMNS, Evaluation

    devices.reuse_memory()
    place = devices.pick(device)
    data = test_images if isinstance(test_images, Dataset) else load(test_images, place) if isinstance(test_images, str | Path) else None
    made = _as_set(condensed, data)
    if data is None:
        data = _tested(made, *given.images_and_labels(test_images, test_labels, "test_", floats=True)[:2], place)
    check_data(Path("condensed"), made, data)
    spec = evaluation_spec(made, network, seed=seed, flip=flip, protocol=protocol, seeds=seeds, **changes)
    return pd.DataFrame(Evaluation(spec, data, made).rows(), columns=COLUMNS).astype({"accuracy": float})


def evaluation_spec(made: Condensed, network: str | dict[str, Any], *, seed: int, flip: bool | None, **settings: Any) -> job_specs.Spec:
    """The spec of the job that evaluates `made` on `network`, in a study with the section `evaluation` of `settings`; see `evaluate`."""
    job = {"dataset": NAME, "method": NAME, "network": {}, **made.metadata.get("spec", {})}
    dataset, method, ipc = job["dataset"], job["method"], made.task.ipc
    own = methods.merge({"name": "convnet3"}, {"name": network} if isinstance(network, str) else network)
    own = job["network"] if own == {"name": job["network"].get("name")} else own
    known = catalogue.ENTRIES.get(dataset)
    config = {
        "study": NAME,
        "seed": seed,
        "datasets": {
            dataset: {
                "kind": "npz",
                "ipc": [ipc],
                "flip": flip if flip is not None else known.flip if known else True,
                "whiten": job.get("whiten"),
                "options": {"path": NAME},
            }
        },
        "networks": {own["name"]: {key: value for key, value in own.items() if key != "name"}},
        "methods": {method: {"base": "random"}},
        "evaluation": settings,
    }
    renamed = ((f"datasets.{dataset}.", ""), (f"networks.{own['name']}", "network"), ("evaluation.", ""))
    return job_specs.spec(_study(config, renamed), "evaluate", dataset, str(ipc), method, own["name"])


def _as_set(condensed: Any, data: "Dataset | None") -> Condensed:
    """The set, whether given as such, as a file or as a pair. A pair is normalised like `data`, else by its own mean and deviation."""
    if not isinstance(condensed, tuple | list):
        return condensed if isinstance(condensed, Condensed) else load_condensed(condensed)
    values, labels = condensed
    soft = torch.as_tensor(labels, dtype=torch.float32, device="cpu") if np.ndim(labels) == 2 else None
    pixels, targets, _ = given.images_and_labels(values, labels if soft is None else soft.argmax(1), floats=True)
    images = torch.from_numpy(given.scaled(pixels))
    counted = numbered(targets, "labels") if soft is None else tuple(map(str, range(soft.shape[1])))
    classes = data.classes if data else counted
    own = data.normalisation.to("cpu") if data else Normalisation(images.mean((0, 2, 3)), images.std((0, 2, 3), correction=0))
    check_labels(targets, classes, "labels")
    task = Task(len(classes), max(1, len(images) // len(classes)), images.shape[1], images.shape[2], own)
    used = images.numel() + (0 if soft is None else soft.numel())
    return Condensed(images, torch.from_numpy(targets), classes, task, {"budget": task.budget, "budget_used": used}, soft)


def _tested(made: Condensed, pixels: NDArray[Any], targets: NDArray[np.int64], place: torch.device) -> "Dataset":
    """Test images as a dataset on a device, with the classes and the normalisation of `made`."""
    if pixels.dtype != np.uint8 and not ((pixels >= 0) & (pixels <= 1)).all():
        raise UserError(f"test_images: from {pixels.min()} to {pixels.max()}; give uint8, or numbers in [0, 1], not normalised")
    check_labels(targets, made.classes, "test_labels")
    split = Split(torch.from_numpy(np.ascontiguousarray(pixels)).to(place), torch.from_numpy(targets).to(place))
    return Dataset(NAME, split, split, made.classes, made.normalisation.to(place), "")


def _training(changes: Any, count: Any) -> Any:
    """The section `experts`, with one expert per shard."""
    if isinstance(changes, Mapping) and (wrong := {"count", "shard", "import"} & changes.keys()):
        raise UserError(f"training.{min(wrong)}: unknown key; give their number as experts=")
    return methods.merge({"epochs": EPOCHS, "count": count, "shard": 1}, changes or {})


def _study(config: dict[str, Any], renamed: Iterable[tuple[str, str]]) -> Study:
    """The study of `config`. Raises UserError that names arguments: `renamed` maps the beginnings of keys to those of arguments."""
    try:
        return Study(json.loads(json.dumps(config, default=_plain)))
    except UserError as error:
        lines = str(error).splitlines()
        for key, argument in renamed:
            lines = [argument + line.removeprefix(key) if line.startswith(key) else line for line in lines]
        raise UserError("\n".join(dict.fromkeys(lines))) from None


def _plain(value: Any) -> Any:
    """A NumPy number as a Python number."""
    if isinstance(value, np.generic):
        return value.item()
    raise UserError(f"{value!r} of type {type(value).__name__}: a setting is text, a number, a list or a mapping")


def _run(study: Study, cell: tuple[str, str, str], arrays: tuple[Any, Any, tuple[str, ...]], folder: Path) -> Path:
    """Check, prepare, train experts and distil, as far as `folder` lacks the results. A file name depends on all that its content does."""
    from esp_core.stages import distill, trial

    pixels, targets, classes = arrays
    _, channels, size, _ = pixels.shape
    trial.check(job_specs.spec(study, "trial", NAME), trial.Facts("images", classes, channels, size, np.bincount(targets).tolist()))
    devices.pick(study.config["device"])
    data = _prepared(pixels, targets, classes, folder, study.datasets[NAME]["whiten"])
    manifest = _experts(study, data, folder) if study.uses_experts(cell[0], int(cell[1]), cell[2]) else None
    spec, code = job_specs.spec(study, "distill", *cell), code_digest.code(study, "distill", *cell)
    made_of = digest(canonical([spec, code, data.name, manifest.parent.name if manifest else None]))
    out = folder / f"ipc-{cell[1]}" / f"{cell[2]}-{made_of}.safetensors"
    if not out.exists():
        distill.run(spec, data, manifest, out, code, study.config["device"])
    return out


def _prepared(pixels: NDArray[np.uint8], targets: NDArray[np.int64], classes: tuple[str, ...], folder: Path, whiten: str | None) -> Path:
    """The images as a prepared dataset for training only; the caller keeps test images separate."""
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
    """The manifest of the experts that `study` asks for; experts that exist already are not trained again."""
    from esp_core.trajectories import manifest
    from esp_core.trajectories.train_shard import produce

    spec, code = job_specs.spec(study, "manifest", NAME), code_digest.code(study, "experts", NAME, "0")
    alike = {key: value for key, value in spec.items() if key != "total"}
    place = folder / f"experts-{digest(canonical([alike, code, data.name]))}"
    out, shards = place / f"manifest-{spec['total']}.json", [place / f"shard-{i:03}.h5" for i in study.shards(NAME)]
    for number, shard in enumerate(shards):
        if not shard.exists():
            produce(job_specs.spec(study, "experts", NAME, str(number)), code, data, shard, study.config["device"])
    if not out.exists():
        manifest.build(out, spec, shards)
    return out

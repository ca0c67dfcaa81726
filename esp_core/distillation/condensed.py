"""Condensed sets on disk: stored numbers, labels and normalisation in one safetensors file; pickle is never used.

The tensors are those of the parametrisation, in normalised space, and `labels` (n, K) float32 if the set has soft labels. The JSON
header says how the set was made.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from esp_core import parametrisations
from esp_core.datasets.normalisation import Normalisation
from esp_core.distillation.mapstyle import MapStyle
from esp_core.parametrisations import Parametrisation, Task
from esp_core.runtime import checksummed
from esp_core.runtime.errors import UserError

if TYPE_CHECKING:
    from esp_core.datasets import Dataset

FORMAT = "esp-condensed-1"
SOFT = "labels"  # the tensor of soft labels
SPACES = {"normalised": "by mean and standard deviation", "zca": "ZCA whitening"}


@dataclass(frozen=True)
class Condensed:
    """A condensed set, decoded.

    `images` (n, C, H, W) float32, denormalised; a set trained without a clamp has values outside [0, 1]. `labels` (n,) int64 index into
    `classes`, the names. `soft` (n, K) float32 or None; with soft labels, `labels` is their argmax. A network trained on the set expects
    `normalise(images)` as input, for test images too. `metadata` says how the set was made.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    task: Task
    metadata: dict[str, Any]
    soft: Tensor | None = None

    @property
    def lr(self) -> float | None:
        """The learning rate that was learned with the set, as in MTT; None if there is none."""
        return self.metadata.get("learned", {}).get("step_size")

    @property
    def normalisation(self) -> Normalisation:
        return self.task.normalisation

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise images in [0, 1], (n, C, H, W) or a single (C, H, W), as a network's input."""
        return self.normalise(images[None])[0] if images.ndim == 3 else self.normalisation.normalise(images)

    def dataset(self, transform: Callable[[Tensor], Any] | None = None) -> MapStyle:
        """The set as a Dataset for a DataLoader: pairs of an image (C, H, W), not normalised unless `transform` does it, and its label."""
        return MapStyle(self.images, self.labels, self.classes, transform)


def save_condensed(
    path: Path,
    synthetic: Parametrisation,
    settings: dict[str, Any],
    classes: tuple[str, ...],
    metadata: dict[str, Any],
    soft: Tensor | None = None,
) -> None:
    """Write `synthetic`, built with parametrisation `settings` (kind included), to `path`, atomically.

    `soft` labels (n, K), in the order of the images, are stored with it and count towards the budget used.
    """
    task, normalisation = synthetic.task, synthetic.task.normalisation
    header = {
        "task": {
            **{k: getattr(task, k) for k in ("classes", "ipc", "channels", "size")},
            "mean": normalisation.mean.tolist(),
            "std": normalisation.std.tolist(),
        },
        "parametrisation": settings,
        "classes": list(classes),
        **metadata,
        "budget": task.budget,
        "budget_used": synthetic.used + (0 if soft is None else soft.numel()),
        "images": synthetic.images,
    }
    tensors = {**synthetic.tensors, **normalisation.tensors, **({} if soft is None else {SOFT: soft})}
    checksummed.write(path, tensors, {"format": FORMAT, "header": json.dumps(header, sort_keys=True)})


def load_condensed(path: str | Path) -> Condensed:
    """Open and decode the condensed set at `path`. Raises UserError if the file is not one or is damaged."""
    synthetic, soft, header = _open(Path(path))
    units = torch.arange(synthetic.units)
    with torch.no_grad():
        decoded = torch.cat([synthetic.decode(part) for part in units.split(256)])
        images = synthetic.task.normalisation.denormalise(decoded)
    labels = synthetic.labels(units) if soft is None else soft.argmax(1)
    return Condensed(images, labels, tuple(header["classes"]), synthetic.task, header, soft)


def copy(path: Path, out: Path, facts: dict[str, Any]) -> None:
    """Write the condensed set at `path` to `out`, with `facts` in its metadata. Raises UserError if it is not one or is damaged."""
    synthetic, soft, header = _open(path)
    made = {key: value for key, value in header.items() if key not in ("task", "parametrisation", "classes")}
    save_condensed(out, synthetic, header["parametrisation"], tuple(header["classes"]), {**made, **facts}, soft)


def check_data(path: Path, condensed: Condensed, data: "Dataset") -> None:
    """Raise UserError if the set at `path` was made for other classes, another class order, image shape or normalisation."""
    task = condensed.task
    pairs = enumerate(zip_longest(condensed.classes, data.classes, fillvalue="missing"))
    differ = [(f"class {label} of {len(condensed.classes)}", *map(repr, pair)) for label, pair in pairs if pair[0] != pair[1]]
    if (shape := (task.channels, task.size, task.size)) != data.shape:
        differ.append(("image shape", str(shape), str(data.shape)))
    if condensed.normalisation.space != data.normalisation.space:
        differ.append(("normalisation", *(SPACES[of.normalisation.space] for of in (condensed, data))))
    ours, theirs = (None if of.normalisation.zca is None else of.normalisation.zca.matrix.cpu() for of in (condensed, data))
    if ours is not None and theirs is not None and ours.shape == theirs.shape and (ours - theirs).norm() > 0.01 * ours.norm():
        differ.append(("whitening", "of one kind", "of another"))
    for name in ("mean", "std"):  # with whitening too: they show whether it was fitted to the same images
        own, other = (getattr(of.normalisation, name).tolist() for of in (condensed, data))
        if len(own) == len(other) and any(abs(a - b) > 1e-6 for a, b in zip(own, other, strict=True)):
            differ.append((f"normalisation's {name}", *(str([round(value, 4) for value in values]) for values in (own, other))))
    if differ:
        what, its, others = differ[0]
        raise UserError(f"{path}: its {what} is {its}, that of the data {data.name} {others}; give the data that it was made from")


def _open(path: Path) -> tuple[Parametrisation, Tensor | None, dict[str, Any]]:
    try:
        tensors, metadata = checksummed.read(path)
        if metadata.get("format") != FORMAT:
            raise UserError(f"{path}: not a condensed set ({FORMAT})")
        header = json.loads(metadata["header"])
        fields = dict(header["task"])
        task = Task(normalisation=Normalisation.read(fields.pop("mean"), fields.pop("std"), tensors), **fields)
        synthetic = parametrisations.build(task, **header["parametrisation"])
        if [type(name) for name in header["classes"]] != [str] * task.classes:
            raise ValueError(f"no names for {task.classes} classes")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (KeyError, TypeError, ValueError, ModuleNotFoundError) as error:
        raise UserError(f"{path}: damaged or not a condensed set ({error}); make it again") from None
    expected = {name: tuple(t.shape) for name, t in synthetic.tensors.items()}
    if SOFT in tensors:
        expected[SOFT] = (synthetic.images, task.classes)
    if task.normalisation.zca is not None:
        numbers = task.channels * task.size**2
        expected |= {"zca_mean": (numbers,), "zca_matrix": (numbers, numbers)}
    if expected != {name: tuple(t.shape) for name, t in tensors.items()} or not all(t.is_floating_point() for t in tensors.values()):
        raise UserError(f"{path}: its tensors do not fit its parametrisation; make it again")
    synthetic.tensors = {name: tensors[name] for name in synthetic.tensors}
    return synthetic, tensors.get(SOFT), header

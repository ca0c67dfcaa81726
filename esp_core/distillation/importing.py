"""Read condensed sets that other people made, check them against the data, and write them as sets of a study.

Accepted: a `.safetensors` that this package wrote; an `.npz` with images and labels (RFAD, KIP); the `.pt` of DC, DSA and DM with
{"data": [[images, labels], …]}; the files of MTT and DATM, one for images, one for labels, one for a learned learning rate; IDC's `.pt`
with a pair; a folder of pictures per class. No code in a `.pt` is ever run: the file may hold only tensors and plain values.
"""

import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esp_core import parametrisations
from esp_core.datasets import Dataset, arrays, folders, imagefolder
from esp_core.datasets.official import sha256
from esp_core.datasets.source import check_labels
from esp_core.distillation.condensed import check_data, copy, load_condensed, save_condensed
from esp_core.parametrisations import Task
from esp_core.runtime.errors import UserError
from esp_core.study.provenance import canonical, digest

OWN = ".safetensors"  # the suffix of sets that this package wrote
ROUNDING = 1e-3  # by which pixels may lie outside [0, 1]
SPACES = {
    "unit": "pixels in [0, 1], or 0 to 255 in uint8",
    "normalised": "less the data's mean, by their deviation",
    "zca": "whitened as the data are",
}
_SCALAR = np.float64(0).__reduce__()[0]
# DC's files also hold accuracies as NumPy scalars, under the name that an older NumPy used.
_NUMBERS: list[Any] = [np.dtype, *(type(np.dtype(name)) for name in ("float32", "float64", "int64"))]
_NUMBERS += [_SCALAR, (_SCALAR, "numpy.core.multiarray.scalar")]


@dataclass(frozen=True)
class Wish:
    """What the user states about the files: IPC, the `space` of their images, the meaning of labels (n, K), and IDC's `factor`."""

    ipc: int
    space: str | None
    labels: str = "soft"
    factor: int = 1


def run(files: Sequence[Path], data: Dataset, wish: Wish, out: Path, metadata: dict[str, Any]) -> str:
    """Write the set in `files` to `out`, atomically; return a line that says what was written. Raises UserError if it does not fit."""
    if any(file.suffix == OWN for file in files):
        return _own(files, data, wish, out, metadata)
    where = ", ".join(map(str, files))
    found = _read(files, data.classes)
    pixels, soft = _images(found["images"], data, where), None
    labels = _labels(found["labels"], len(pixels), data.classes, where)
    pixels = _normalised(pixels, wish, data, where)
    if labels.is_floating_point():
        soft = {"soft": labels, "logits": labels.softmax(1), "hard": None}[wish.labels]
        labels = labels.argmax(1)
    order, counts = labels.argsort(stable=True), labels.bincount(minlength=len(data.classes)).tolist()
    if 0 in counts:
        missing = data.classes[counts.index(0)]
        raise UserError(f"{where}: no image of class {missing}, of the {len(counts)} of {data.name}; give a whole set")
    task = Task(len(counts), wish.ipc, *data.shape[:2], normalisation=data.normalisation.to("cpu"))
    settings: dict[str, Any] = {"kind": "imported", "counts": counts, "factor": wish.factor}
    synthetic = parametrisations.build(task, **settings)
    synthetic.tensors = {"pixels": pixels[order].contiguous()}
    soft = None if soft is None else soft[order].repeat_interleave(synthetic.images_per_unit, 0)
    learned = {"learned": {"step_size": float(found["lr"])}} if "lr" in found else {}
    facts = {"files": {file.name: _sha256(file) for file in files}, "space": wish.space, **learned, **metadata}
    save_condensed(out, synthetic, settings, data.classes, facts, soft)
    used = synthetic.used + (0 if soft is None else soft.numel())
    deviations = f"deviation {pixels.std():.2f}, of the data's {data.normalise(data.train.images[:1000]).std():.2f}"
    over = f", more than that of IPC {wish.ipc}" if used > task.budget else ""
    return f"{out}: {synthetic.images} images of {len(counts)} classes, {used:,} numbers of a budget of {task.budget:,}{over}; {deviations}"


def _own(files: Sequence[Path], data: Dataset, wish: Wish, out: Path, metadata: dict[str, Any]) -> str:
    """Copy a set that this package wrote: its file says what the numbers, the labels and the images are."""
    where = ", ".join(map(str, files))
    if len(files) > 1:
        raise UserError(f"{where}: a {OWN} is a whole set; give it alone")
    found = load_condensed(files[0])
    check_data(files[0], found, data)
    if found.task.ipc != wish.ipc:
        raise UserError(f"{where}: a set of IPC {found.task.ipc}, wanted as one of IPC {wish.ipc}; give the set of that IPC")
    copy(files[0], out, {"files": {files[0].name: _sha256(files[0])}, **metadata})
    return f"{out}: {len(found.images)} images of {len(found.classes)} classes, {found.metadata['budget_used']:,} numbers"


def _read(files: Sequence[Path], classes: Sequence[str]) -> dict[str, Tensor]:
    """The `images`, the `labels` and, if present, the learned `lr` in `files`, recognised by their shapes."""
    found: dict[str, Tensor] = {}
    for file in files:
        for tensor in _tensors(file, classes):
            name = "images" if tensor.ndim > 2 else "lr" if tensor.numel() == 1 else "labels"
            if name in found:
                raise UserError(f"{file}: {name} a second time; give the files of one set")
            found[name] = tensor
    if missing := [name for name in ("images", "labels") if name not in found]:
        raise UserError(f"{', '.join(map(str, files))}: holds no {missing[0]}; give the file of them, too")
    return found


def _tensors(file: Path, classes: Sequence[str]) -> list[Tensor]:
    if file.is_dir():
        return _folder(file, classes)
    if file.is_file() and file.suffix.lower() in _FORMS:
        return _FORMS[file.suffix.lower()](file)
    what = "no such file or folder" if not file.exists() else "of no known form"
    raise UserError(f"{file}: {what}; give an .npz, .pt or .pth file, or a folder with a folder of pictures for each class")


def _npz(file: Path) -> list[Tensor]:
    with arrays.reading(file), np.load(file, allow_pickle=False) as content:
        names = next((pair for pair in arrays.TRAIN if set(pair) <= set(content.files)), None)
        if names is None:
            raise UserError(f"{file}: holds {', '.join(content.files) or 'nothing'}; name the arrays images and labels")
        return [torch.as_tensor(content[name]) for name in (*names, *({"lr"} & set(content.files)))]


def _torch(file: Path) -> list[Tensor]:
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, AttributeError, *arrays.DAMAGED) as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"holds a {named[1]}, and is not opened" if named else f"damaged or no file of torch ({type(error).__name__})"
        raise UserError(f"{file}: {what}; save images and labels as plain tensors") from None
    match content:
        case {"data": [*earlier, [images, labels]]}:
            if earlier:
                print(f"{file}: {len(earlier) + 1} sets; the last one is taken", flush=True)
            parts = [images, labels]
        case {"images": images, "labels": labels}:
            parts = [images, labels]
        case [images, labels]:
            parts = [images, labels]
        case _:
            parts = [content]
    with arrays.reading(file):
        return [torch.as_tensor(part) for part in parts]


def _folder(folder: Path, classes: Sequence[str]) -> list[Tensor]:
    """Pictures in folders named like the classes, like the folders of `esp distill export`, or by numbers in the order of the classes."""
    found = folders.find(folder)
    part, _ = imagefolder.training(found)
    numbers = tuple(sorted(found.classes, key=int)) if all(name.isdecimal() for name in found.classes) else ()
    names = next((own for own in (tuple(classes), folders.folder_names(classes), numbers) if set(own) == set(found.classes)), ())
    if len(names) != len(classes):
        raise UserError(f"{folder}: its {len(found.classes)} folders are not the {len(classes)} classes, {', '.join(classes[:3])}, …")
    labels = np.array([names.index(name) for name in found.classes])[part.labels]
    return [torch.from_numpy(part.images), torch.from_numpy(labels)]


_FORMS = {".npz": _npz, ".pt": _torch, ".pth": _torch}


def _images(values: Tensor, data: Dataset, where: str) -> Tensor:
    """`values` as (n, C, H, W)."""
    channels, height, width = data.shape
    if values.ndim == 3 and channels == 1:
        values = values[:, None]
    if values.shape[1:] == (height, width, channels):
        values = values.permute(0, 3, 1, 2)
    if values.shape[1:] != data.shape or not (values.dtype == torch.uint8 or values.is_floating_point()):
        raise UserError(f"{where}: images are {_type(values)} {tuple(values.shape)}; those of {data.name} are (n, {str(data.shape)[1:]}")
    if not values.isfinite().all():
        raise UserError(f"{where}: images hold values that are not finite; mend the file")
    return values


def _labels(values: Tensor, count: int, classes: Sequence[str], where: str) -> Tensor:
    """`values` as int64 (n,), or as float32 (n, K) if they hold a number for each class."""
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if len(values) != count:
        raise UserError(f"{where}: {len(values)} labels for {count} images; give the labels of these images")
    if values.ndim == 2 and values.shape[1] != len(classes):
        raise UserError(f"{where}: labels of {values.shape[1]} classes, but the data have {len(classes)}; give the data of this set")
    if not values.isfinite().all() or (values.ndim == 1 and values.is_floating_point() and (values % 1).any()):
        raise UserError(f"{where}: a label that is not finite or no whole number; mend the file")
    if values.ndim == 2:
        return values.float()
    check_labels(values.long().numpy(), classes, where)
    return values.long()


def _normalised(values: Tensor, wish: Wish, data: Dataset, where: str) -> Tensor:
    """Images in the space of `wish` as float32 in the data's space. Raises UserError if no space is given or they cannot lie in it."""
    low, high = float(values.min()), float(values.max())
    within = -ROUNDING <= low and high <= 1 + ROUNDING
    looks = f"images are {_type(values)} from {low:.3g} to {high:.3g}, deviation {values.float().std():.3g}, as "
    if values.dtype == torch.uint8 or within:
        looks += "pixels are (unit)"
    else:
        looks += "pixels of 0 to 255 are; divide them by 255" if low >= 0 else "normalised or whitened ones are (normalised, zca)"
    if wish.space not in SPACES:
        raise UserError(f"{where}: {looks}; say what they are by --space: {', '.join(f'{name} ({text})' for name, text in SPACES.items())}")
    own = data.normalisation.space
    if wish.factor > 1 and own == "zca":
        raise UserError(f"factor {wish.factor}: small images cannot be cut out of whitened ones; prepare {data.name} without whiten")
    if wish.space == "unit":
        if values.dtype != torch.uint8 and not within:
            raise UserError(f"{where}: no pixels in [0, 1], space unit: {looks}")
        return data.normalise(values)
    if wish.space != own:
        do = "with" if wish.space == "zca" else "without"
        raise UserError(f"{where}: space {wish.space}, but images of {data.name} are {own}; prepare the data {do} whiten")
    real = data.normalise(data.train.images[:1000])
    span = real.max() - real.min()
    if low >= 0 or low < real.min() - span or high > real.max() + span:
        raise UserError(f"{where}: no images in space {own}, where the data's lie from {real.min():.3g} to {real.max():.3g}: {looks}")
    return values.float()


def _type(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")


def _sha256(file: Path) -> str:
    """SHA-256 of a file, or a digest of the names and contents of the files in a folder."""
    if not file.is_dir():
        return sha256(file)
    inside = sorted(path for path in file.rglob("*") if path.is_file())
    return digest(canonical([(str(path.relative_to(file)), sha256(path)) for path in inside]))

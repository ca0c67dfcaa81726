"""A prepared dataset as tensors on a device."""

from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import torch
from torch import Tensor

from esp_core.datasets import FORMAT
from esp_core.datasets.normalisation import Normalisation
from esp_core.datasets.splitting import stratified
from esp_core.runtime.errors import UserError
from esp_core.study.provenance import digest


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W) uint8 with labels (N,) int64; `coarse` labels (N,) where the dataset has two levels."""

    images: Tensor
    labels: Tensor
    coarse: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> "Split":
        """The images at `indices` (n,), as a Split."""
        indices = indices.to(self.labels.device)
        return Split(self.images[indices], self.labels[indices], None if self.coarse is None else self.coarse[indices])


@dataclass(frozen=True)
class Dataset:
    """Training and test images on one device. `normalisation` is that of all training images, or a published one."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    normalisation: Normalisation
    digest: str
    coarse_classes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def normalise(self, images: Tensor) -> Tensor:
        """What networks see, float32, of `images` (n, C, H, W): uint8, or floating-point in [0, 1], maybe with a gradient."""
        return self.normalisation.normalise(images).float()

    def holdout(self, fraction: float, seed: int) -> "Dataset":
        """A Dataset without the test images: its `test` is `fraction` of the training images, its `train` the rest.

        Stratified and a function of `seed` alone. The normalisation stays as it is, so that networks trained on either agree.
        Raises UserError for a class of one image.
        """
        kept, held = stratified(self.train.labels, fraction, "holdout", seed, classes=self.classes)
        return replace(self, train=self.train[kept], test=self.train[held], digest=digest(f"{self.digest}:holdout:{fraction}:{seed}"))

    def check_ipc(self, ipc: int) -> None:
        """Raise UserError where a class has fewer than `ipc` training images."""
        counts = torch.bincount(self.train.labels, minlength=len(self.classes))
        if int(counts.min()) < ipc:
            label = int(counts.argmin())
            raise UserError(
                f"{self.name}: class {self.classes[label]} has {int(counts[label])} training images, fewer than IPC {ipc}; "
                f"lower the IPC to {int(counts[label])} or add images"
            )


def load(path: str | Path, device: str | torch.device = "cpu", validation: float | None = None) -> Dataset:
    """Open what `python -m esp_core prepare` wrote. Raises UserError for a missing, foreign or damaged file.

    With `validation` the test images are left alone: that part of the training images, always the same, takes their place.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such prepared dataset; make it with python -m esp_core prepare")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise UserError(f"{path}: not a prepared dataset of this version; make it again with python -m esp_core prepare")
            data = _read(file, torch.device(device))
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and make it again with python -m esp_core prepare") from error
    return data if validation is None else data.holdout(validation, seed=0)


def _read(file: h5py.File, device: torch.device) -> Dataset:
    return Dataset(
        name=file.attrs["name"],
        train=_split(file["train"], device),
        test=_split(file["test"], device),
        classes=_names(file, "classes"),
        normalisation=Normalisation.read(file.attrs["mean"], file.attrs["std"], file).to(device),
        digest=file.attrs["digest"],
        coarse_classes=_names(file, "coarse_classes"),
    )


def _split(group: h5py.Group, device: torch.device) -> Split:
    def tensor(key: str) -> Tensor:
        return torch.from_numpy(group[key][:]).to(device)

    return Split(tensor("images"), tensor("labels"), tensor("coarse_labels") if "coarse_labels" in group else None)


def _names(file: h5py.File, key: str) -> tuple[str, ...]:
    return tuple(file[key].asstr()[:]) if key in file else ()

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
    """Images (N, C, H, W) uint8 with labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> "Split":
        """The images at `indices` (n,), as a Split."""
        indices = indices.to(self.labels.device)
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """Training and test images on one device. `normalisation` is measured on all training images, or published."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    normalisation: Normalisation
    digest: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def normalise(self, images: Tensor) -> Tensor:
        """The network input, float32, for `images` (n, C, H, W): uint8, or floating-point in [0, 1]; differentiable."""
        return self.normalisation.normalise(images).float()

    def holdout(self, fraction: float, seed: int) -> "Dataset":
        """A Dataset without the test images: its `test` is `fraction` of the training images, its `train` the rest.

        The split is stratified and depends only on `seed`. The normalisation does not change, so networks trained on either dataset agree.
        Raises UserError for a class of one image.
        """
        kept, held = stratified(self.train.labels, fraction, "holdout", seed, classes=self.classes)
        return replace(self, train=self.train[kept], test=self.train[held], digest=digest(f"{self.digest}:holdout:{fraction}:{seed}"))

    def check_ipc(self, ipc: int) -> None:
        """Raise UserError if a class has fewer than `ipc` training images."""
        counts = torch.bincount(self.train.labels, minlength=len(self.classes))
        if int(counts.min()) < ipc:
            label = int(counts.argmin())
            raise UserError(
                f"{self.name}: class {self.classes[label]} has {int(counts[label])} training images, fewer than IPC {ipc}; "
                f"lower the IPC to {int(counts[label])} or add images"
            )


def load(path: str | Path, device: str | torch.device = "cpu", validation: float | None = None) -> Dataset:
    """Open a file that `python -m esp_core prepare` wrote. Raises UserError if it is missing, damaged or something else.

    With `validation`, that part of the training images, always the same, replaces the test images.
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
        classes=tuple(file["classes"].asstr()[:]),
        normalisation=Normalisation.read(file.attrs["mean"], file.attrs["std"], file).to(device),
        digest=file.attrs["digest"],
    )


def _split(group: h5py.Group, device: torch.device) -> Split:
    images, labels = (torch.from_numpy(group[key][:]).to(device) for key in ("images", "labels"))
    return Split(images, labels)

"""Any image classification dataset of torchvision, by the name of its class, such as FashionMNIST.

What torchvision reads may be pickled (its own CIFAR is); this project's other kinds never read pickle.
"""

import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image

from esp_core.datasets import pictures
from esp_core.datasets.arrays import numbered
from esp_core.datasets.source import Chunk, Labels, Part, Remarks, Request, Source, check_labels
from esp_core.datasets.splitting import made_test_part, refuse_fraction
from esp_core.networks import torchvision_import
from esp_core.runtime.errors import UserError


def read(
    request: Request,
    *,
    name: str,
    arguments: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    test: dict[str, Any] | None = None,
    size: Annotated[int, ">= 1"] | None = None,
    mode: Literal["RGB", "L"] | None = None,
    test_fraction: Annotated[float, "> 0, < 1"] | None = None,
) -> Source:
    """torchvision.datasets.<name>(**arguments, **train) and (**arguments, **test). Raises UserError.

    name: the class, such as EuroSAT
    arguments: what both parts are made with, such as root and download
    train: what the training part is made with beside; train=True or split="train" unless given, whichever the class takes
    test: what the test part is made with beside; train=False or split="test" unless given
    size: as of imagefolder
    mode: as of imagefolder
    test_fraction: the part of each class that becomes the test images, with the study's seed, where the class has one part only; 0.2
        unless given
    """
    factory = _class(name)
    splits = _splits(factory, train, test)
    if splits:
        refuse_fraction(test_fraction, request, f"torchvision's {name}")
    parts = [_built(factory, name, {**(arguments or {}), **extra}) for extra in splits or [{}]]
    labels = [_labels(part, name) for part in parts]
    classes = _classes(parts[0], labels[0])
    form = pictures.form_like(_image(parts[0], 0, name), f"{name}[0]", mode, size)
    origin = {"from": f"torchvision.datasets.{name}", "arguments": arguments or {}}
    check_labels(labels[0], len(classes), name)
    remarks: Remarks = Counter()
    if splits:
        whole = [_part(part, targets, range(len(part)), form, name, remarks) for part, targets in zip(parts, labels, strict=True)]
        return Source(form.shape, classes, whole[0], whole[1], {**origin, "train": splits[0], "test": splits[1]}, remarks=remarks)
    *halves, facts = made_test_part(labels[0], test_fraction, request, classes)
    kept, held = (_part(parts[0], labels[0], some.tolist(), form, name, remarks) for some in halves)
    return Source(form.shape, classes, kept, held, {**origin, **facts}, remarks=remarks)


def _class(name: str) -> Any:
    torchvision_import.load()
    from torchvision import datasets

    found = getattr(datasets, name, None)
    if not (inspect.isclass(found) and issubclass(found, datasets.VisionDataset)):
        raise UserError(f"options.name: torchvision.datasets has no dataset class {name}; its names are in torchvision's documentation")
    return found


def _splits(factory: Any, train: dict[str, Any] | None, test: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The arguments that make the training and the test part, or nothing where the class has one part only."""
    if (train is None) != (test is None):
        raise UserError("options.train and options.test go together; give both")
    if train is not None and test is not None:
        return [train, test]
    parameters = inspect.signature(factory).parameters
    if "train" in parameters:
        return [{"train": True}, {"train": False}]
    return [{"split": "train"}, {"split": "test"}] if "split" in parameters else []


def _built(factory: Any, name: str, arguments: dict[str, Any]) -> Any:
    try:
        return factory(**arguments)
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"torchvision's {name} with {arguments}: {reason}; correct options.arguments, which may hold download: true"
        ) from error


def _labels(dataset: Any, name: str) -> Labels:
    kept = next((getattr(dataset, key) for key in ("targets", "labels", "_labels") if hasattr(dataset, key)), None)
    targets = kept if kept is not None and len(kept) == len(dataset) else [dataset[i][1] for i in range(len(dataset))]
    try:
        return np.array([int(target) for target in targets], np.int64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"torchvision's {name}: its targets are not one whole number an image; only classification can be condensed"
        ) from error


def _classes(dataset: Any, labels: Labels) -> tuple[str, ...]:
    names = getattr(dataset, "classes", None)
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return tuple(names)
    return numbered(labels, type(dataset).__name__)


def _image(dataset: Any, index: int, name: str) -> Image.Image:
    try:
        image = dataset[index][0]
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"torchvision's {name}: item {index} cannot be read ({error}); repair or remove it") from error
    if not isinstance(image, Image.Image):
        raise UserError(
            f"torchvision's {name}: item {index} is a {type(image).__name__}, not a picture; use the npz or hdf5 kind for arrays"
        )
    return image


def _part(dataset: Any, labels: Labels, indices: Sequence[int], form: pictures.Form, name: str, remarks: Remarks) -> Part:
    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(indices), pictures.CHUNK):
            some = indices[start : start + pictures.CHUNK]
            images = np.stack([form.array(_image(dataset, i, name), f"{name}[{i}]", remarks) for i in some])
            yield Chunk(images, labels[list(some)])

    return Part(len(indices), chunks(), f"torchvision's {name}")

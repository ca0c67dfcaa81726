"""Any image classification dataset of torchvision, by the name of its class, such as FashionMNIST.

torchvision may read pickled files (its CIFAR is pickled); this project's other kinds never read pickle.
"""

import inspect
from collections import Counter
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image

from esp_core.datasets import pictures
from esp_core.datasets.source import Images, Part, Request, Source, assembled, numbered
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
    datasets = [_built(factory, name, {**(arguments or {}), **extra}) for extra in splits or [{}]]
    form = pictures.form_like(_item(datasets[0], 0, name)[0], f"{name}[0]", mode, size)
    notes: list[str] = []
    first, *second = (_part(dataset, name, form, notes) for dataset in datasets)
    named = getattr(datasets[0], "classes", ())
    is_named = named and isinstance(named, list | tuple) and all(isinstance(one, str) for one in named)
    classes = tuple(named) if is_named else numbered(first.labels, name)
    origin = {"from": f"torchvision.datasets.{name}", "arguments": arguments or {}, **dict(zip(("train", "test"), splits, strict=False))}
    return assembled(request, classes, first, second[0] if second else None, test_fraction, origin, Counter(notes))


def _class(name: str) -> Any:
    torchvision_import.load()
    from torchvision import datasets

    found = getattr(datasets, name, None)
    if not (inspect.isclass(found) and issubclass(found, datasets.VisionDataset)):
        raise UserError(f"options.name: torchvision.datasets has no dataset class {name}; its names are in torchvision's documentation")
    return found


def _splits(factory: Any, train: dict[str, Any] | None, test: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The arguments for the training and the test part; for a class with one part only, none."""
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


def _part(dataset: Any, name: str, form: pictures.Form, notes: list[str]) -> Part:
    labels = np.empty(len(dataset), np.int64)

    def decode(index: int) -> Images:
        image, labels[index] = _item(dataset, index, name)
        return form.array(image, f"{name}[{index}]", notes)

    where = f"torchvision's {name}"
    return Part(where, pictures.stacked(decode, len(dataset), form, where), labels)


def _item(dataset: Any, index: int, name: str) -> tuple[Image.Image, int]:
    try:
        image, target = dataset[index][:2]
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"torchvision's {name}: item {index} cannot be read ({error}); repair or remove it") from error
    if not isinstance(image, Image.Image):
        raise UserError(
            f"torchvision's {name}: item {index} is a {type(image).__name__}, not a picture; use the npz or hdf5 kind for arrays"
        )
    try:
        return image, int(target)
    except (TypeError, ValueError):
        raise UserError(
            f"torchvision's {name}: its targets are not one whole number an image; only classification can be condensed"
        ) from None

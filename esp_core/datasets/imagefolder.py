"""The user's own images in folders, one folder for each class: path/<class>/… or path/train/<class>/… and path/test/<class>/…"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from esp_core.datasets import folders, pictures
from esp_core.datasets.source import Part, Request, Source
from esp_core.datasets.splitting import made_test_part, refuse_fraction
from esp_core.runtime.errors import UserError


def read(
    request: Request,
    *,
    path: str,
    size: Annotated[int, ">= 1"] | None = None,
    mode: Literal["RGB", "L"] | None = None,
    test_fraction: Annotated[float, "> 0, < 1"] | None = None,
) -> Source:
    """Every image file beneath the class folders, whose sorted names are the classes; `folders.find` tells the parts. Raises UserError.

    path: the folder
    size: pixels along a side, to which the shorter side is resized before the middle is cropped; left out, all images must be alike
    mode: what the images are converted to; left out, all must be alike
    test_fraction: the part of each class that becomes the test images, with the study's seed, where there is no folder of them; 0.2
        unless given
    """
    root = folders.located(path)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; correct options.path of dataset {request.dataset}")
    found = folders.find(root)
    paths, labels = _flat(found.train)
    form = pictures.form_like(pictures.opened(paths[0]), str(paths[0]), mode, size)

    def part(paths: list[Path], labels: list[int], where: Path) -> Part:
        return Part(len(paths), pictures.chunks(paths, labels, form, found.remarks), str(where))

    origin = {"from": str(root), "images": len(paths)}
    if found.test:
        refuse_fraction(test_fraction, request, str(found.test.root))
        train, test = part(paths, labels, found.train.root), part(*_flat(found.test), found.test.root)
        return Source(form.shape, found.classes, train, test, origin, remarks=found.remarks)
    *halves, facts = made_test_part(np.array(labels), test_fraction, request, found.classes)
    train, test = (part(_at(paths, some), _at(labels, some), found.train.root) for some in halves)
    return Source(form.shape, found.classes, train, test, {**origin, **facts}, remarks=found.remarks)


def _flat(part: folders.Part) -> tuple[list[Path], list[int]]:
    """Image files and their labels."""
    paths = [Path(entry.path) for files in part.files for entry in files]
    return paths, [label for label, files in enumerate(part.files) for _ in files]


def _at(values: list[Any], indices: Iterable[int]) -> list[Any]:
    return [values[i] for i in indices]

"""The user's own images in folders, one folder for each class: path/<class>/… or path/train/<class>/… and path/test/<class>/…"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from esp_core.datasets import folders, pictures
from esp_core.datasets.source import Part, Remarks, Request, Source, assembled
from esp_core.runtime.errors import UserError


def read(
    request: Request,
    *,
    path: str,
    size: Annotated[int, ">= 1"] | None = None,
    mode: Literal["RGB", "L"] | None = None,
    test_fraction: Annotated[float, "> 0, < 1"] | None = None,
) -> Source:
    """Every image file below the class folders, whose sorted names are the classes; see `folders.find` for the parts. Raises UserError.

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
    train, form = training(found, size, mode)
    test = _part(found.test, form, found.remarks) if found.test else None
    return assembled(request, found.classes, train, test, test_fraction, {"from": str(root), "images": len(train.labels)}, found.remarks)


def training(found: folders.Found, size: int | None = None, mode: str | None = None) -> tuple[Part, pictures.Form]:
    """The training images of a folder and their form; arguments as in `read`. Raises UserError."""
    first = found.train.files[0][0].path
    form = pictures.form_like(pictures.opened(Path(first), []), first, mode, size)
    return _part(found.train, form, found.remarks), form


def _part(part: folders.Part, form: pictures.Form, remarks: Remarks) -> Part:
    paths = [Path(entry.path) for files in part.files for entry in files]
    labels = np.repeat(np.arange(len(part.files)), [len(files) for files in part.files])
    return Part(str(part.root), pictures.images(paths, form, str(part.root), remarks), labels)

"""The user's own images in folders, one folder for each class: path/<class>/… or path/train/<class>/… and path/test/<class>/…"""

from pathlib import Path

import numpy as np

from esp_core.datasets import folders, pictures
from esp_core.datasets.source import Part, Remarks, Request, Source, refuse_fraction, split
from esp_core.runtime.errors import UserError


def read(request: Request, *, path: str, size: int | None = None, mode: str | None = None, test_fraction: float | None = None) -> Source:
    """Every image file beneath the class folders, whose sorted names are the classes; `folders.find` tells the parts.

    `size` resizes: the shorter side to `size` pixels, then the middle is cropped. `mode`, RGB or L, converts. Without them all
    images must be alike. Where path/train is there without path/test or path/valid, and where none is, `test_fraction`, 0.2 unless
    given, of each class becomes the test part with the study's seed. Raises UserError.
    """
    root = folders.located(path)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; correct options.path of dataset {request.dataset}")
    found = folders.find(root)
    if found.test:
        refuse_fraction(test_fraction, request, str(found.test.root))
    first = found.train.files[0][0].path
    form = pictures.form_like(pictures.opened(Path(first), []), first, mode, size)
    train = _part(found.train, form, found.remarks)
    origin = {"from": str(root), "images": len(train.labels)}
    if found.test:
        return Source(found.classes, train, _part(found.test, form, found.remarks), origin, remarks=found.remarks)
    train, test, facts = split(train, test_fraction, request, found.classes)
    return Source(found.classes, train, test, {**origin, **facts}, remarks=found.remarks)


def _part(part: folders.Part, form: pictures.Form, remarks: Remarks) -> Part:
    paths = [Path(entry.path) for files in part.files for entry in files]
    labels = np.repeat(np.arange(len(part.files)), [len(files) for files in part.files])
    return Part(str(part.root), pictures.read(paths, form, str(part.root), remarks), labels)

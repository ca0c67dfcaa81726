"""The user's own images in folders, one folder for each class: path/<class>/… or path/train/<class>/… and path/test/<class>/…"""

from pathlib import Path
from typing import Any

import numpy as np

from esp_core.datasets import folders, pictures
from esp_core.datasets.source import Part, Request, Source, refuse_fraction, split
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
    train, test = _files(found.train), _files(found.test) if found.test else []
    form = pictures.form_like(pictures.opened(train[0][0], []), str(train[0][0]), mode, size)
    origin: dict[str, Any] = {"from": str(root), "images": len(train)}
    if found.test:
        refuse_fraction(test_fraction, request, str(found.test.root))
    else:
        kept, held, facts = split(np.array([label for _, label in train]), test_fraction, request, found.classes)
        train, test = [train[i] for i in kept], [train[i] for i in held]
        origin |= facts

    def part(where: Path, files: list[tuple[Path, int]]) -> Part:
        images = pictures.read([file for file, _ in files], form, str(where), found.remarks)
        return Part(str(where), images, np.array([label for _, label in files]))

    return Source(found.classes, part(found.train.root, train), part((found.test or found.train).root, test), origin, remarks=found.remarks)


def _files(part: folders.Part) -> list[tuple[Path, int]]:
    """Image files with their labels."""
    return [(Path(entry.path), label) for label, files in enumerate(part.files) for entry in files]

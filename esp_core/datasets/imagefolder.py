"""The user's own images in folders, one folder for each class: path/<class>/… or path/train/<class>/… and path/test/<class>/…"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from esp_core.datasets import pictures
from esp_core.datasets.source import Part, Request, Source
from esp_core.datasets.splitting import made_test_part, refuse_fraction
from esp_core.errors import UserError

TEST_FOLDERS = ("test", "val", "validation")


def read(request: Request, *, path: str, size: int | None = None, mode: str | None = None, test_fraction: float | None = None) -> Source:
    """Every image file beneath the class folders, whose sorted names are the classes.

    `size` resizes: the shorter side to `size` pixels, then the middle is cropped. `mode`, RGB or L, converts. Without them all
    images must be alike. Where path/train is there without path/test (or val, validation), and where neither is, `test_fraction`,
    0.2 unless given, of each class becomes the test part with the study's seed. Raises UserError.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; correct options.path of dataset {request.dataset}")
    train_root = root / "train" if (root / "train").is_dir() else root
    test_root = next((root / name for name in TEST_FOLDERS if train_root != root and (root / name).is_dir()), None)
    classes = tuple(sorted(folder.name for folder in _folders(train_root)))
    if not classes:
        raise UserError(f"{train_root}: holds no class folders; put the images of each class into a folder of its own")
    paths, labels = _listed(train_root, classes)
    form = pictures.form_like(pictures.opened(paths[0]), str(paths[0]), mode, size)
    origin = {"from": str(root), "images": len(paths)}
    if test_root:
        refuse_fraction(test_fraction, request, str(test_root))
        test = _part(*_listed(test_root, classes), form, str(test_root))
        return Source(form.shape, classes, _part(paths, labels, form, str(train_root)), test, origin)
    *halves, facts = made_test_part(np.array(labels), test_fraction, request, classes)
    train, test = (_part([paths[i] for i in some], [labels[i] for i in some], form, str(train_root)) for some in halves)
    return Source(form.shape, classes, train, test, {**origin, **facts})


def _folders(root: Path) -> list[Path]:
    return [folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith(".")]


def _listed(root: Path, classes: Sequence[str]) -> tuple[list[Path], list[int]]:
    """Image files and labels. Raises UserError for a class folder without images, and for one that is not among `classes`."""
    if unknown := sorted({folder.name for folder in _folders(root)} - set(classes)):
        raise UserError(f"{root / unknown[0]}: no training folder has this name; rename or remove it")
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        some = sorted(p for p in (root / name).rglob("*") if p.suffix.lower() in pictures.SUFFIXES and not p.name.startswith("."))
        if not some:
            raise UserError(f"{root / name}: class {name} has no image here; add some or remove the class")
        paths += some
        labels += [label] * len(some)
    return paths, labels


def _part(paths: Sequence[Path], labels: Sequence[int], form: pictures.Form, where: str) -> Part:
    return Part(len(paths), pictures.chunks(paths, labels, form), where)

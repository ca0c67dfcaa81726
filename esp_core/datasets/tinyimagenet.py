"""TinyImageNet-200: 100,000 training and 10,000 test JPEGs of 64 x 64, 200 classes; the labelled validation images are the test images.

Source: Y. Le and X. Yang, Tiny ImageNet Visual Recognition Challenge, Stanford CS 231N, 2015. ImageNet's terms:
non-commercial research and education.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from esp_core.datasets import official, pictures
from esp_core.datasets.source import Part, Request, Source
from esp_core.runtime.errors import UserError

FORM = pictures.Form("RGB", (64, 64), convert=True, resize=False, like="every official image")
OFFICIAL = {"train": 500, "validation": 50}


def read(request: Request, *, sample: bool = False) -> Source:
    """The unpacked folder. Classes are in the order of their WordNet ids; grey images become RGB.

    sample: whether this is a sample; fewer images than the official 500 and 50 a class are refused otherwise
    """
    folder, origin = official.opened(request)
    ids = sorted(_lines(folder / "wnids.txt"))
    words = dict(line.split("\t", 1) for line in _lines(folder / "words.txt"))
    train = [(path, wnid) for wnid in ids for path in sorted((folder / "train" / wnid / "images").glob("*.JPEG"))]
    fields = (line.split("\t") for line in _lines(folder / "val" / "val_annotations.txt"))
    test = [(folder / "val" / "images" / name, wnid) for name, wnid, *_ in fields]
    for name, images in (("train", train), ("validation", test)):
        _check([wnid for _, wnid in images], ids, name, sample, folder)
    classes = tuple(words[wnid].split(",")[0] for wnid in ids)
    return Source(classes, _part(train, ids, f"{folder} (train)"), _part(test, ids, f"{folder} (validation)"), origin)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; get the official archive again or give its whole unpacked folder") from None


def _check(wnids: Sequence[str], ids: Sequence[str], name: str, sample: bool, folder: Path) -> None:
    counts = Counter(wnids)
    if unknown := sorted(counts.keys() - set(ids)):
        raise UserError(f"{folder}: {name} label {unknown[0]} is not in wnids.txt; get the official archive again")
    for wnid in ids:
        if not sample and counts[wnid] != OFFICIAL[name]:
            raise UserError(
                f"{folder}: class {wnid} has {counts[wnid]} {name} images where the official set has {OFFICIAL[name]}; "
                "get the official archive again, or set options.sample to true"
            )


def _part(images: Sequence[tuple[Path, str]], ids: Sequence[str], where: str) -> Part:
    labels = np.array([ids.index(wnid) for _, wnid in images])
    return Part(where, pictures.images([path for path, _ in images], FORM, where, Counter()), labels)

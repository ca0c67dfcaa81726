"""TinyImageNet-200: 100,000 and 10,000 JPEGs of 64 x 64 in 200 classes; the labelled validation images are the test images.

Source: Y. Le and X. Yang, Tiny ImageNet Visual Recognition Challenge, Stanford CS 231N, 2015.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from esp_core.datasets import official, pictures
from esp_core.datasets.source import Part, Request, Source
from esp_core.runtime.errors import UserError

FORM = pictures.Form("RGB", 64, 64, convert=True, resize=False, like="every official image")
OFFICIAL = {"train": 500, "validation": 50}


def read(request: Request, *, sample: bool = False) -> Source:
    """The unpacked folder. Classes are in the order of their WordNet ids; some images are grey and become RGB.

    sample: whether this is a sample; fewer images than the official 500 and 50 a class are refused otherwise
    """
    found = official.opened(request)
    ids = sorted(_lines(found.folder / "wnids.txt"))
    words = dict(line.split("\t", 1) for line in _lines(found.folder / "words.txt"))
    train = [(path, wnid) for wnid in ids for path in sorted((found.folder / "train" / wnid / "images").glob("*.JPEG"))]
    fields = (line.split("\t") for line in _lines(found.folder / "val" / "val_annotations.txt"))
    test = [(found.folder / "val" / "images" / name, wnid) for name, wnid, *_ in fields]
    return Source(
        FORM.shape,
        tuple(words[wnid].split(",")[0] for wnid in ids),
        _part(train, ids, "train", sample, found.folder),
        _part(test, ids, "validation", sample, found.folder),
        found.origin,
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; get the official archive again or give its whole unpacked folder") from None


def _part(images: Sequence[tuple[Path, str]], ids: Sequence[str], name: str, sample: bool, folder: Path) -> Part:
    counts = Counter(wnid for _, wnid in images)
    if unknown := sorted(counts.keys() - set(ids)):
        raise UserError(f"{folder}: {name} label {unknown[0]} is not in wnids.txt; get the official archive again")
    for wnid in ids:
        if not sample and counts[wnid] != OFFICIAL[name]:
            raise UserError(
                f"{folder}: class {wnid} has {counts[wnid]} {name} images where the official set has {OFFICIAL[name]}; "
                "get the official archive again, or set options.sample to true"
            )
    paths, wnids = [path for path, _ in images], [wnid for _, wnid in images]
    numbers = {wnid: number for number, wnid in enumerate(ids)}
    return Part(len(paths), pictures.chunks(paths, [numbers[wnid] for wnid in wnids], FORM, Counter()), f"{folder} ({name})")

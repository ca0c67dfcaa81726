"""The content of a folder of images: parts, classes and files. The same search serves to read it and to detect changes.

Standard library only: the Snakefile reads it. What is left out, or used in a possibly unexpected way, is counted by reason.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from esp_core.runtime.errors import UserError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
CLUTTER = frozenset({"__macosx", "@eadir"})  # made by macOS's archives and by network disks; both hold copies of images
_OBJECT = r"[\W_]*(set|data|split|part|images?|imgs?|files?|folder)?[\W_]*\d*"
PARTS = {
    "training": re.compile(rf"(train|training|trn){_OBJECT}"),
    "test": re.compile(rf"(test|testing|tst){_OBJECT}"),
    "validation": re.compile(rf"(val|valid|validation|dev|eval|evaluation){_OBJECT}"),
}

LONGEST = 40  # letters of a class name in a numbered folder name
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
OTHER = re.compile(r"[^\w-]")
# Names that Windows reserves for devices, and folders that readers take for parts of a dataset.
TAKEN = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|(train|test|val|dev|eval|hold).*|.*macosx)", re.IGNORECASE)

Entry = os.DirEntry[str]
Remarks = Counter[str]  # as in `source`, which imports numpy


@dataclass(frozen=True)
class Part:
    """The image files in the class folders of `root`, class by class, in the order of their paths."""

    root: Path
    files: list[list[Entry]]


@dataclass(frozen=True)
class Found:
    """A folder of images. `test` is None if it has to be split from the training images."""

    classes: tuple[str, ...]
    train: Part
    test: Part | None
    remarks: Remarks


def located(path: str) -> Path:
    """The path that a user gave, with ~ as the home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # the home folder of an unknown user
        return Path(path)


def find(root: Path) -> Found:
    """The images of `root`: in its training and test folders or, if it has none, in its class folders.

    Raises UserError, of one line, for a folder whose parts or classes are unclear, and for a class without images.
    """
    remarks: Remarks = Counter()
    train, test = _parts(root, remarks)
    classes = _class_names(train, remarks)
    if test and (unknown := sorted({*_class_names(test, remarks)} - {*classes})):
        raise UserError(f"{test / unknown[0]}: no training folder has this name; rename or remove it")
    return Found(tuple(classes), _part(train, classes, remarks), _part(test, classes, remarks) if test else None, remarks)


def listed(folder: Path | str, remarks: Remarks, *, links: bool = True) -> tuple[list[Entry], list[Entry]]:
    """Folders and image files directly in `folder`, by name; all else is counted. With `links`, links to folders count as folders."""
    inside, images = [], []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            suffix = Path(entry.name).suffix.lower()
            is_folder, is_file = _what(entry, links)
            if entry.name.startswith(".") or entry.name.lower() in CLUTTER:
                remarks["hidden files and folders left out"] += 1
            elif is_folder:
                inside.append(entry)
            elif not is_file:
                remarks["links and special files left out"] += 1
            elif suffix in SUFFIXES:
                images.append(entry)
            else:
                remarks[f"files {f'ending in {suffix}' if suffix else 'without an ending'} left out, no known images"] += 1
    return inside, images


def part_of(name: str) -> str | None:
    """The part of a dataset (training, test or validation) that a folder of this name usually holds."""
    return next((part for part, pattern in PARTS.items() if pattern.fullmatch(name.lower())), None)


def _what(entry: Entry, links: bool) -> tuple[bool, bool]:
    """Whether an entry is a folder, or a link to one that does not contain the link; and whether it is a file."""
    try:
        is_folder, path = entry.is_dir(follow_symlinks=links), Path(entry.path)
        if is_folder and entry.is_symlink() and path.parent.resolve().is_relative_to(path.resolve()):
            return False, False
        return is_folder, entry.is_file()
    except OSError:  # a circular link
        return False, False


def _parts(root: Path, remarks: Remarks) -> tuple[Path, Path | None]:
    """The folders of training and test images; validation images serve as test images if there are no others."""
    folders = [entry.name for entry in listed(root, Counter())[0]]
    named = {part: [name for name in folders if part_of(name) == part] for part in PARTS}
    parts = [name for names in named.values() for name in names]
    if [name.lower() for name in parts] == ["train"] and len(folders) > 1 and not listed(root / parts[0], Counter())[0]:
        remarks[f"images in {parts[0]}, taken for a class: it holds no class folders and lies beside others"] = _size(root / parts[0])
        return root, None
    if not parts:
        return root, None
    for part, names in named.items():
        if len(names) > 1:
            raise UserError(f"{root}: {' and '.join(names)} both look like {part} images; keep one of them")
    if not named["training"]:
        raise UserError(
            f"{root}: holds {parts[0]} but no folder train; move the training classes into one, or rename {parts[0]} if a class"
        )
    used = [*named["training"], *[*named["test"], *named["validation"]][:1]]
    if len(used) > 1 and not named["test"]:
        remarks[f"images in {used[1]} taken as test images, since there is no folder test"] = _size(root / used[1])
    for name in sorted({*folders} - {*used}):
        remarks[f"images in {name} left out, beside {' and '.join(used)}"] += _size(root / name)
    _count_loose(root, remarks)
    return root / used[0], root / used[1] if len(used) > 1 else None


def _class_names(root: Path, remarks: Remarks) -> list[str]:
    """The names of the class folders. Raises UserError if there are none, or one cannot be a class."""
    inside, images = listed(root, Counter())
    if not inside and images:
        raise UserError(f"{root}: {len(images)} images lie in it without class folders; sort them into {root}/<class> or remove the folder")
    if not inside:
        raise UserError(f"{root}: holds no class folders; put the images of each class into a folder of its own")
    for entry in inside:
        if part_of(entry.name) and listed(entry.path, Counter())[0]:
            raise UserError(f"{entry.path}: looks like a part, not like a class; move the folders in it to where it lies")
        if re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", entry.name):
            raise UserError(f"{root}: the name of folder {entry.name!a} is no text; rename it")
    _count_loose(root, remarks)
    return [entry.name for entry in inside]


def _part(root: Path, classes: Sequence[str], remarks: Remarks) -> Part:
    part = Part(root, [list(_within(root / name, remarks)) if (root / name).is_dir() else [] for name in classes])
    for name, files in zip(classes, part.files, strict=True):
        if not files:
            raise UserError(f"{root / name}: class {name} has no image here; add some or remove the class")
    return part


def _within(folder: Path | str, remarks: Remarks, nested: bool = False) -> Iterator[Entry]:
    """The images of a class folder, nested folders included, in the order of their paths."""
    inside, images = listed(folder, remarks, links=False)
    remarks["images in folders inside a class folder, taken for that class"] += nested * len(images)
    if parts := [entry.path for entry in inside if part_of(entry.name)]:
        raise UserError(f"{parts[0]}: a part inside a class; put the parts first, as in train/<class> and test/<class>")
    for entry in sorted([*inside, *images], key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from _within(entry.path, remarks, nested=True)
        else:
            yield entry


def _count_loose(root: Path, remarks: Remarks) -> None:
    """Count the images directly in `root`, outside the class folders."""
    remarks["images outside the class folders left out"] += len(listed(root, remarks)[1])


def _size(folder: Path | str) -> int:
    """The number of images in and below a folder."""
    inside, images = listed(folder, Counter(), links=False)
    return len(images) + sum(_size(entry.path) for entry in inside)


def folder_names(classes: Sequence[str]) -> tuple[str, ...]:
    """A folder name for each class: all different, even without case, and sorted in the order of the classes.

    They are the class names if these can serve as such. Otherwise each is the label, with leading zeros, and the characters of the
    name that every file system accepts: ("b", "a/c") gives 0-b and 1-a_c.
    """
    plain = all(PLAIN.fullmatch(name) and not TAKEN.fullmatch(name) for name in classes)
    if plain and list(classes) == sorted(classes) and len({name.casefold() for name in classes}) == len(classes):
        return tuple(classes)
    digits = len(str(len(classes) - 1))
    return tuple(f"{label:0{digits}}-{OTHER.sub('_', name)[:LONGEST]}" for label, name in enumerate(classes))

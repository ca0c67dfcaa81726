"""What a folder of images holds: its parts, classes and files, found in the same way to read it and to notice that it changed.

Standard library only: the Snakefile reads it. What is left out, or taken in a way that could surprise, is counted by reason.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from esp_core.runtime.errors import UserError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
CLUTTER = frozenset({"__macosx", "@eadir"})  # of macOS's archives and of network disks; both hold copies of images
_OBJECT = r"[\W_]*(set|data|split|part|images?|imgs?|files?|folder)?[\W_]*\d*"
PARTS = {
    "training": re.compile(rf"(train|training|trn){_OBJECT}"),
    "test": re.compile(rf"(test|testing|tst){_OBJECT}"),
    "validation": re.compile(rf"(val|valid|validation|dev|eval|evaluation){_OBJECT}"),
}

LONGEST = 40  # letters of a class name that a numbered folder keeps
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
OTHER = re.compile(r"[^\w-]")
# Names that Windows keeps for devices, and folders that readers take for parts of a dataset.
TAKEN = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|(train|test|val|dev|eval|hold).*|.*macosx)", re.IGNORECASE)

Entry = os.DirEntry[str]
Remarks = Counter[str]  # those of `source`, which is not light


@dataclass(frozen=True)
class Part:
    """The image files in the class folders of `root`, class by class, in the order of their paths."""

    root: Path
    files: list[list[Entry]]


@dataclass(frozen=True)
class Found:
    """A folder of images. `test` is None where it has to be made from the training images."""

    classes: tuple[str, ...]
    train: Part
    test: Part | None
    remarks: Remarks


def located(path: str) -> Path:
    """The path that a user gave, with ~ as the home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # the home of an unknown user
        return Path(path)


def find(root: Path) -> Found:
    """The images of `root`: those of its training and test folders or, where it has none, of its class folders.

    Raises UserError, one line, for a folder whose parts or classes cannot be told, and for a class without images.
    """
    remarks: Remarks = Counter()
    train, test = _parts(root, remarks)
    classes = _class_names(train, remarks)
    if test and (unknown := sorted({*_class_names(test, remarks)} - {*classes})):
        raise UserError(f"{test / unknown[0]}: no training folder has this name; rename or remove it")
    return Found(tuple(classes), _part(train, classes, remarks), _part(test, classes, remarks) if test else None, remarks)


def listed(folder: Path | str, remarks: Remarks, *, links: bool = True) -> tuple[list[Entry], list[Entry]]:
    """Folders and image files that lie directly in `folder`, by name; the rest is counted. `links` to folders count as folders."""
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
    """The part of a dataset, training, test or validation, that a folder of this name holds by custom."""
    return next((part for part, pattern in PARTS.items() if pattern.fullmatch(name.lower())), None)


def _what(entry: Entry, links: bool) -> tuple[bool, bool]:
    """Whether an entry is a folder, or a link to one that does not hold the link itself; and whether it is a file."""
    try:
        is_folder, path = entry.is_dir(follow_symlinks=links), Path(entry.path)
        if is_folder and entry.is_symlink() and path.parent.resolve().is_relative_to(path.resolve()):
            return False, False
        return is_folder, entry.is_file()
    except OSError:  # a link in a circle
        return False, False


def _parts(root: Path, remarks: Remarks) -> tuple[Path, Path | None]:
    """The folders of the training and of the test images; validation images are the test images where there are no others."""
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
    """The names of the class folders. Raises UserError where there are none, and for one that cannot be a class."""
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
    """The images of a class folder in the order of their paths, those of folders inside it too."""
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
    """Count what lies in `root` itself and not in a class folder."""
    remarks["images outside the class folders left out"] += len(listed(root, remarks)[1])


def _size(folder: Path | str) -> int:
    """How many images lie in and beneath a folder."""
    inside, images = listed(folder, Counter(), links=False)
    return len(images) + sum(_size(entry.path) for entry in inside)


def folder_names(classes: Sequence[str]) -> tuple[str, ...]:
    """A folder name for each class: all different, also where case does not count, and in the classes' order when sorted.

    They are the classes' own names where these can be that; otherwise each is the label, with leading zeros, and what of the name
    every file system takes: ("b", "a/c") gives 0-b and 1-a_c.
    """
    plain = all(PLAIN.fullmatch(name) and not TAKEN.fullmatch(name) for name in classes)
    if plain and list(classes) == sorted(classes) and len({name.casefold() for name in classes}) == len(classes):
        return tuple(classes)
    digits = len(str(len(classes) - 1))
    return tuple(f"{label:0{digits}}-{OTHER.sub('_', name)[:LONGEST]}" for label, name in enumerate(classes))

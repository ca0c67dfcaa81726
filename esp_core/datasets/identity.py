"""Detects changes of a user's own images without reading them. Standard library only: the Snakefile reads it."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from esp_core.datasets import folders
from esp_core.runtime.errors import UserError


def identity(kind: str, options: Mapping[str, Any]) -> str | None:
    """A digest of the names, sizes and times of the files that a dataset's `options` name; None if they name none."""
    try:
        facts = list(_facts(kind, options))
    except (OSError, ValueError) as error:  # missing or forbidden: the job reports it
        facts = [type(error).__name__]
    return hashlib.sha256("\0".join(facts).encode(errors="surrogatepass")).hexdigest()[:16] if facts else None


def _facts(kind: str, options: Mapping[str, Any]) -> Iterator[str]:
    path = folders.located(options["path"]) if isinstance(options.get("path"), str) else None
    if kind == "torchvision_class" and options.get("name") == "ImageFolder":
        for arguments in (options.get("arguments"), options.get("train"), options.get("test")):
            if isinstance(arguments, Mapping) and isinstance(root := arguments.get("root"), str):
                yield from (_stated(str(file.relative_to(root)), file.stat()) for file in sorted(Path(root).rglob("*")) if file.is_file())
    elif path and kind == "imagefolder" and path.is_dir():
        try:
            found = folders.find(path)
        except UserError as error:
            yield str(error)
            return
        for part in filter(None, (found.train, found.test)):
            for name, files in zip(found.classes, part.files, strict=True):
                yield name
                yield from (_stated(entry.path[len(str(path)) :], entry.stat()) for entry in files)
    elif path and path.is_file():
        yield _stated("", path.stat())


def _stated(name: str, facts: os.stat_result) -> str:
    return f"{name} {facts.st_size} {facts.st_mtime_ns}"

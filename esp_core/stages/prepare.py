"""Stage: read a dataset, check it, and write it as one HDF5 file that every later stage opens.

    python -m esp_core prepare --spec '{"dataset":"digits","kind":"digits","options":{"size":16},"study_seed":0}' --out digits.h5

An official dataset also needs --files, which `python -m esp_core download` writes. The log says what was counted: images and classes
of each part, and files that were left out or changed, by reason.
"""

import argparse
import importlib
import inspect
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin

from esp_core.runtime.errors import UserError, command
from esp_core.study import jobspec
from esp_core.study.provenance import canonical, source_digest

# Whole numbers are looked at by the kinds.
WANTED = {str: "text", float: "a number", Sequence: "a list", dict: "a mapping", bool: "true or false"}


def prepare(spec: dict[str, Any], out: Path, files: Path | None = None) -> None:
    """Write the dataset that `spec` describes to `out`, whole or not at all. Raises UserError for bad data or options."""
    from esp_core.datasets import store
    from esp_core.datasets.source import Request

    module = _module(spec["dataset"], spec["kind"])
    request = Request(spec["dataset"], spec["study_seed"], files)
    _check_options(spec, module.read)
    source = module.read(request, **spec["options"])
    provenance = {
        "spec": canonical(spec),
        "code": source_digest("esp_core.stages.prepare", module.__name__),
        "versions": canonical(_versions()),
    }
    store.write(out, spec["dataset"], source, provenance, spec.get("normalisation"))
    for line in _counted(out, source.classes, source.remarks):
        print(f"{spec['dataset']}: {line}", file=sys.stderr)


def _module(dataset: str, kind: str) -> ModuleType:
    # Looked up by name, so that editing an URL or a licence there prepares no dataset again.
    catalogue = importlib.import_module("esp_core.datasets.catalogue")
    if kind not in catalogue.KINDS:
        raise UserError(f"dataset {dataset}: kind {kind} is unknown; use one of {', '.join(catalogue.KINDS)}")
    return importlib.import_module(f"esp_core.datasets.{kind}")


def _check_options(spec: Mapping[str, Any], read: Callable[..., Any]) -> None:
    """Raise UserError for an option that the kind lacks, or that is of another type than its reader takes."""
    signature = inspect.signature(read)
    try:
        signature.bind(None, **spec["options"])
    except TypeError as error:
        raise UserError(f"dataset {spec['dataset']}: options of kind {spec['kind']}: {error}") from None
    for name, value in spec["options"].items():
        hint = signature.parameters[name].annotation
        types = [get_origin(kind) or kind for kind in get_args(hint) or (hint,)]
        wanted = [WANTED[kind] for kind in types if kind in WANTED]
        if wanted and not any(_is_a(value, kind) for kind in types):
            raise UserError(f"dataset {spec['dataset']}: options.{name} is {value!r}; give {wanted[0]}")


def _is_a(value: Any, kind: type) -> bool:
    if kind in (float, Sequence):
        return isinstance(value, int | float if kind is float else list | tuple) and not isinstance(value, bool)
    return isinstance(value, kind)


def _counted(out: Path, classes: Sequence[str], remarks: Mapping[str, int]) -> list[str]:
    """What lies in the file `out`, and the remarks about what it was made of, each with its number."""
    import h5py
    import numpy as np

    lines = [f"{len(classes)} classes"]
    with h5py.File(out, "r") as file:
        for part, name in (("train", "training"), ("test", "test")):
            counts = np.bincount(file[part]["labels"], minlength=len(classes))
            least, most = int(counts.min()), int(counts.max())
            lines.append(f"{counts.sum():,} {name} images, {least:,}{f' to {most:,}' if most > least else ''} a class")
    return [*lines, *(f"{count:,} {text}" for text, count in remarks.items() if count)]


def _versions() -> dict[str, str]:
    import h5py
    import numpy

    return {"python": platform.python_version(), "numpy": numpy.__version__, "h5py": h5py.__version__}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--spec", type=jobspec.read, required=True, help="dataset, kind, options and study_seed, as JSON")
    parser.add_argument("--files", type=Path, help="files.json of an official dataset")
    parser.add_argument("--out", type=Path, required=True, help="the HDF5 file to write")
    return parser.parse_args()


@command
def main() -> None:
    """The command line."""
    arguments = _arguments()
    prepare(arguments.spec, arguments.out, arguments.files)

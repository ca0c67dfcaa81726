"""Read a dataset of any kind, check it, and write it as one HDF5 file; say what was counted in it, left out and changed."""

import importlib
import inspect
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args, get_origin

from esp_core.runtime.errors import UserError
from esp_core.study.provenance import canonical, source_digest

if TYPE_CHECKING:
    from esp_core.datasets.source import Source

# Whole numbers are looked at by the kinds.
WANTED = {str: "text", float: "a number", Sequence: "a list", dict: "a mapping", bool: "true or false"}


def prepare(spec: Mapping[str, Any], out: Path, files: Path | None = None) -> None:
    """Write the dataset that `spec` describes to `out`, whole or not at all; `files` is the files.json of an official one.

    Raises UserError for bad data or options.
    """
    from esp_core.datasets import store
    from esp_core.datasets.source import Request

    module = _module(spec["dataset"], spec["kind"])
    request = Request(spec["dataset"], spec["study_seed"], files)
    _check_options(spec, module.read)
    source = module.read(request, **spec["options"])
    code = source_digest("esp_core.stages.prepare", module.__name__)
    provenance = {"spec": canonical(spec), "code": code, "versions": canonical(_versions())}
    store.write(out, spec["dataset"], source, provenance, spec.get("normalisation"))
    for line in _counted(source):
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


def _counted(source: "Source") -> Iterator[str]:
    """Classes, images of each part, and the remarks about what they were made of, each with its number."""
    import numpy as np

    yield f"{len(source.classes)} classes"
    for part, name in ((source.train, "training"), (source.test, "test")):
        counts = np.bincount(part.labels, minlength=len(source.classes))
        least, most = counts.min(), counts.max()
        yield f"{counts.sum():,} {name} images, {least:,}{f' to {most:,}' if most > least else ''} a class"
    yield from (f"{count:,} {text}" for text, count in source.remarks.items() if count)


def _versions() -> dict[str, str]:
    import h5py
    import numpy

    return {"python": platform.python_version(), "numpy": numpy.__version__, "h5py": h5py.__version__}

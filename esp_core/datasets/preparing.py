"""Read a dataset of any kind, check it, and write it as one HDF5 file; report counts, and what was left out or changed."""

import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esp_core.study import kinds
from esp_core.study.provenance import canonical, source_digest

if TYPE_CHECKING:
    from esp_core.datasets.source import Source


def prepare(spec: Mapping[str, Any], out: Path, files: Path | None = None) -> None:
    """Write the dataset that `spec` describes to `out`, atomically; `files` is the files.json of an official one.

    Raises UserError for bad data or options.
    """
    from esp_core.datasets import store
    from esp_core.datasets.source import Request

    read = kinds.factory("dataset", spec["kind"], spec["options"], f"dataset {spec['dataset']}: options.")
    source = read(Request(spec["dataset"], spec["study_seed"], files), **spec["options"])
    code = source_digest("esp_core.stages.prepare", kinds.place("dataset", spec["kind"])[0])
    provenance = {"spec": canonical(spec), "code": code, "versions": canonical(_versions())}
    store.write(out, spec["dataset"], source, provenance, spec.get("normalisation"), spec.get("whiten"))
    for line in _counted(source):
        print(f"{spec['dataset']}: {line}", file=sys.stderr)


def _counted(source: "Source") -> Iterator[str]:
    """Lines with the number of classes, of images in each part, and of files for each remark."""
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

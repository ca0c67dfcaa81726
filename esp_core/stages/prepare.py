"""Stage: read a dataset, check it, and write it as one HDF5 file that every later stage opens.

    python -m esp_core prepare --spec '{"dataset":"digits","kind":"digits","options":{"size":16},"study_seed":0}' --out digits.h5

An official dataset also needs --files, which `python -m esp_core download` writes. The log says what was counted: images and classes
of each part, and files that were left out or changed, by reason.
"""

import argparse
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esp_core.runtime.errors import command
from esp_core.study import jobspec, kinds
from esp_core.study.provenance import canonical, source_digest


def prepare(spec: dict[str, Any], out: Path, files: Path | None = None) -> None:
    """Write the dataset that `spec` describes to `out`, whole or not at all. Raises UserError for bad data or options."""
    from esp_core.datasets import store
    from esp_core.datasets.source import Request

    read = kinds.factory("dataset", spec["kind"], spec["options"], f"dataset {spec['dataset']}: options.")
    source = read(Request(spec["dataset"], spec["study_seed"], files), **spec["options"])
    provenance = {
        "spec": canonical(spec),
        "code": source_digest("esp_core.stages.prepare", kinds.place("dataset", spec["kind"])[0]),
        "versions": canonical(_versions()),
    }
    store.write(out, spec["dataset"], source, provenance, spec.get("normalisation"))
    for line in _counted(out, source.classes, source.remarks):
        print(f"{spec['dataset']}: {line}", file=sys.stderr)


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

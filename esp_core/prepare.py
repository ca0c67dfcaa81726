"""Stage: read a dataset, check it, and write it as one HDF5 file that every later stage opens.

    python -m esp_core.prepare --spec '{"dataset":"digits","kind":"digits","options":{"size":16},"study_seed":0}' --out digits.h5

An official dataset also needs --files, which `python -m esp_core.download` writes.
"""

import argparse
import importlib
import inspect
import platform
from pathlib import Path
from types import ModuleType
from typing import Any

from esp_core import jobspec
from esp_core.errors import UserError, command
from esp_core.provenance import canonical, source_digest


def prepare(spec: dict[str, Any], out: Path, files: Path | None = None) -> None:
    """Write the dataset that `spec` describes to `out`, whole or not at all. Raises UserError for bad data or options."""
    from esp_core.datasets import store
    from esp_core.datasets.source import Request

    module = _module(spec["dataset"], spec["kind"])
    request = Request(spec["dataset"], spec["study_seed"], files)
    try:
        inspect.signature(module.read).bind(request, **spec["options"])
    except TypeError as error:
        raise UserError(f"dataset {spec['dataset']}: options of kind {spec['kind']}: {error}") from None
    source = module.read(request, **spec["options"])
    provenance = {
        "spec": canonical(spec),
        "code": source_digest("esp_core.prepare", module.__name__),
        "versions": canonical(_versions()),
    }
    store.write(out, spec["dataset"], source, provenance)


def _module(dataset: str, kind: str) -> ModuleType:
    # Looked up by name, so that editing an URL or a licence there prepares no dataset again.
    catalogue = importlib.import_module("esp_core.datasets.catalogue")
    if kind not in catalogue.KINDS:
        raise UserError(f"dataset {dataset}: kind {kind} is unknown; use one of {', '.join(catalogue.KINDS)}")
    return importlib.import_module(f"esp_core.datasets.{kind}")


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


if __name__ == "__main__":
    main()

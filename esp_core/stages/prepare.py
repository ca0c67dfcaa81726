"""Stage: read a dataset, check it, and write it as one HDF5 file that every later stage opens.

    python -m esp_core prepare --spec '{"dataset":"digits","kind":"digits","options":{"size":16},"study_seed":0}' --out digits.h5

An official dataset also needs --files, the list that `python -m esp_core download` writes. The log counts classes, images of each part,
and files that were left out or changed, by reason.
"""

import argparse
from pathlib import Path

from esp_core.datasets.preparing import prepare
from esp_core.runtime.errors import command
from esp_core.study import spec_argument


@command
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--spec", type=spec_argument.read, required=True, help="dataset, kind, options and study_seed, as JSON")
    parser.add_argument("--files", type=Path, help="files.json of an official dataset")
    parser.add_argument("--out", type=Path, required=True, help="the HDF5 file to write")
    arguments = parser.parse_args()
    prepare(arguments.spec, arguments.out, arguments.files)

"""Stage: read a dataset, check it, and write it as one HDF5 file that every later stage opens.

    python -m esp_core prepare --spec '{"dataset":"digits","kind":"digits","options":{"size":16},"study_seed":0}' --out digits.h5

An official dataset also needs --files, the list that `python -m esp_core download` writes. The log counts classes, images of each part,
and files that were left out or changed, by reason.
"""

from pathlib import Path

from esp_core.datasets.preparing import prepare
from esp_core.runtime.errors import command
from esp_core.study import arguments


@command
def main() -> None:
    """The command line."""
    parser = arguments.parser("prepare", __doc__, "the HDF5 file to write")
    parser.add_argument("--files", type=Path, help="files.json of an official dataset")
    args = parser.parse_args()
    prepare(args.spec, args.out, args.files)

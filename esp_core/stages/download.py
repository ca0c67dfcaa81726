"""Stage: get a dataset's official files, verify them, and list them in files.json.

    python -m esp_core download --spec '{"dataset":"cifar10","kind":"cifar10","mirror":null}' --out results/downloads/cifar10/files.json

A mirror, given in the spec or else by the environment variable ESP_MIRROR, is a URL or a local folder with the official archive or the
unpacked official files. Unpacked files in a folder are read in place; everything else is stored beside files.json.
"""

import argparse
from pathlib import Path

from esp_core.datasets.downloading import download
from esp_core.runtime.errors import command
from esp_core.study import spec_argument


@command
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--spec", type=spec_argument.read, required=True, help="dataset, kind and mirror, as JSON")
    parser.add_argument("--out", type=Path, required=True, help="the files.json to write; the files lie beside it")
    arguments = parser.parse_args()
    download(arguments.spec, arguments.out)

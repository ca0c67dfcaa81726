"""Stage: get a dataset's official files, verify them, and list them in files.json.

    python -m esp_core download --spec '{"dataset":"cifar10","kind":"cifar10","mirror":null}' --out results/downloads/cifar10/files.json

A mirror, given in the spec or else by the environment variable ESP_MIRROR, is a URL or a local folder with the official archive or the
unpacked official files. Unpacked files in a folder are read in place; everything else is stored beside files.json.
"""

from esp_core.datasets.downloading import download
from esp_core.runtime.errors import command
from esp_core.study import arguments


@command
def main() -> None:
    """The command line."""
    args = arguments.parser("download", __doc__, "the files.json to write; the files lie beside it").parse_args()
    download(args.spec, args.out)

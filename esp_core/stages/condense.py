"""Tool `condense`: condense a folder of images, with a folder per class, without Snakemake.

    python -m esp_core condense FOLDER --ipc 10 --size 32 --out SET.safetensors

If the folder holds `train` and `test`, `train` is condensed, otherwise all of it, in colour; what is left out is counted.
The experts are stored in `--work` for later calls.
"""

import sys
from pathlib import Path
from typing import Any

from esp_core.runtime.errors import UserError, command
from esp_core.study import arguments


def run(folder: Path, out: Path, work: Path, size: int | None, **choices: Any) -> str:
    """Condense the images in `folder` into `out`, with the `choices` of `esp_core.condense`; return a line that says what was written."""
    from esp_core import api
    from esp_core.datasets import folders, imagefolder

    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give one that holds a folder of images for each class")
    found = folders.find(folder)
    train, _ = imagefolder.training(found, size, "RGB")
    for remark, count in found.remarks.items():
        if count:
            print(f"{folder}: {count:,} {remark}", file=sys.stderr)
    made = api.condense(train.images, train.labels, classes=found.classes, folder=work, out=out, **choices)
    return f"{out}: {len(made.labels)} images of {len(found.classes)} classes, from {len(train.labels)}"


@command
def main() -> None:
    parser = arguments.named("condense", __doc__)
    parser.add_argument("folder", type=Path, help="a folder for each class, or train/CLASS and test/CLASS")
    parser.add_argument("--ipc", type=int, default=1, help="images' worth of numbers a class; 1 by default")
    parser.add_argument("--out", type=Path, required=True, help="the condensed set, .safetensors")
    parser.add_argument("--method", default="esp", help="esp by default")
    parser.add_argument("--size", type=int, help="pixels along a side; left out, all images must be alike")
    parser.add_argument("--experts", type=int, default=10, help="how many are trained, where the method needs any; 10 by default")
    parser.add_argument("--iterations", type=int, help="outer steps; the method's own by default")
    parser.add_argument("--work", type=Path, default=Path("condensed"), help="folder for prepared data and experts; condensed by default")
    arguments.add(parser, "device", "no-flip")
    a = parser.parse_args()
    more = {} if a.iterations is None else {"iterations": a.iterations}
    flip, shared = not a.no_flip, {"method": a.method, "ipc": a.ipc, "experts": a.experts, "device": a.device}
    print(run(a.folder, a.out, a.work, a.size, flip=flip, **shared, **more))

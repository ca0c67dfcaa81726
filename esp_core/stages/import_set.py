"""Stage `import_set`: import a condensed set that other people made, to evaluate it like ours.

    python -m esp_core import FILE… --data D.h5 --ipc 10 --space unit|normalised|zca --out S.safetensors

The prepared data give the classes, the shape and the normalisation. `space` says what the numbers of the images are; it must be given and
is never guessed. Only a `.safetensors` of this package needs none: it says so itself.
"""

from pathlib import Path
from typing import Any

from esp_core.runtime.errors import command
from esp_core.study import arguments


def run(spec: dict[str, Any], files: list[Path], data_path: Path, out: Path, code: str = "") -> None:
    """Write the set in `files` to `out`, atomically, as `spec` says. Raises UserError if it does not fit the data."""
    from esp_core import datasets
    from esp_core.distillation import importing

    wish = importing.Wish(**{key: spec[key] for key in ("ipc", "space", "labels", "factor")})
    print(importing.run(files, datasets.load(data_path), wish, out, {"spec": spec, "code": code}))


@command
def main() -> None:
    parser = arguments.named("import", __doc__)
    known = ".safetensors, .npz, .pt, .pth or a folder of pictures by class; several make one set"
    parser.add_argument("files", type=Path, nargs="+", help=known)
    parser.add_argument("--data", type=Path, required=True, help="the prepared dataset that the set is of, .h5")
    parser.add_argument("--out", type=Path, required=True, help="the condensed set, .safetensors")
    parser.add_argument("--ipc", type=int, default=1, help="images per class that its budget is held against; 1 by default")
    parser.add_argument("--space", help="unit, normalised or zca: what the numbers of the images are")
    parser.add_argument(
        "--labels", choices=("soft", "logits", "hard"), default="soft", help="what labels with a number a class are taken for"
    )
    parser.add_argument("--factor", type=int, default=1, help="small images along a side of a stored one, as IDC has 2; 1 by default")
    parser.add_argument("--spec", type=arguments.read, help="JSON in place of the last four, as the workflow gives it")
    arguments.add(parser, "code")
    args = parser.parse_args()
    by_hand = {key: getattr(args, key) for key in ("ipc", "space", "labels", "factor")}
    run(args.spec or by_hand, args.files, args.data, args.out, args.code)

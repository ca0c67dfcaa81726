"""Train networks on a condensed set, once per seed, and test them, without Snakemake.

    python -m esp_core evaluate SET [--data D.h5] [--network convnet3] [--protocol dsa] [--seeds 5]

A released set has a card, the YAML file beside it. Without `--protocol`, a network in the card is trained as the card says, and the card's
accuracy is printed too. Without `--data`, the card's dataset is prepared below `--results`, and official files are downloaded.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from esp_core import api
from esp_core.datasets import folders
from esp_core.datasets.catalogue import is_official
from esp_core.datasets.downloading import download
from esp_core.datasets.official import sha256
from esp_core.datasets.preparing import prepare
from esp_core.distillation.condensed import Condensed, load_condensed
from esp_core.runtime.errors import UserError, command
from esp_core.stages import evaluate
from esp_core.stages.release import Card, read_card, spread
from esp_core.study import arguments
from esp_core.study.output_paths import output

JOB = "A job of a study is run by --spec JSON --data D.h5 [--condensed SET] --out ROWS.csv in place of these."


def run(path: Path, data: Path | None, network: str, results: Path, device: str, protocol: str | None, **settings: Any) -> str:
    """Test the set at `path`; return a line with its accuracy and, if the card has the same test, the card's.

    `data` is a prepared dataset, a folder of images whose test images are used, or None for the card's. `settings` are those of
    `api.evaluation_spec`. Raises UserError.
    """
    card, made = _card(path), load_condensed(path)
    said = card["tests"].get(network) if card is not None and protocol is None else None
    if said is None:
        job = api.evaluation_spec(made, network, protocol=protocol or "dsa", **settings)
    else:
        job = {**said["spec"], "seeds": settings["seeds"]}
    if data is None:
        if card is None:
            raise UserError(f"--data: {path} has no card that names its dataset; give the prepared dataset, .h5, or the folder of images")
        data = _prepared(card["dataset"]["prepare"], results)
    elif data.is_dir():
        data = _prepared(_folder(data, made), results)
    rows = evaluate.run(job, data, path, device=device)
    found = pd.Series([float(row["accuracy"]) for row in rows])
    ours = {"mean": found.mean(), "std": found.std()}
    line = f"{network}: {spread(ours, 2)} % (n = {len(rows)})"
    return line if said is None else f"{line}; the card says {spread(said, 2)} % (n = {said['n']})"


def _card(path: Path) -> Card | None:
    """The card of the set at `path`, if it has one. Raises UserError if it is that of another set."""
    place = path.with_suffix(".yaml")
    if not place.exists():
        return None
    card = read_card(place)
    if not path.is_file() or sha256(path) != card["sha256"]:
        raise UserError(f"{path}: not the set of its card; get both again")
    return card


def _prepared(job: dict[str, Any], results: Path) -> Path:
    """The prepared dataset of the spec `job`, below `results`."""
    name, kind = job["dataset"], job["kind"]
    out, listed = results / output("released", "prepare", name), results / output("", "download", name)
    if is_official(kind) and not listed.is_file():
        download({"dataset": name, "kind": kind, "mirror": None}, listed)
    prepare(job, out, listed)
    return out


def _folder(folder: Path, made: Condensed) -> dict[str, Any]:
    """The spec that prepares a folder of images with the size and channels of `made`."""
    if folders.find(folder).test is None:
        raise UserError(f"--data {folder}: holds no folder of test images; give one with train and test, each with a folder for each class")
    options = {"path": str(folder.resolve()), "size": made.task.size, "mode": "L" if made.task.channels == 1 else "RGB"}
    whiten = made.metadata.get("spec", {}).get("whiten")
    return {"study_seed": 0, "dataset": folder.resolve().name, "kind": "imagefolder", "options": options, "whiten": whiten}


@command
def main() -> None:
    parser = arguments.named("evaluate", __doc__, epilog=JOB)
    parser.add_argument("set", type=Path, help="the condensed set, .safetensors")
    parser.add_argument("--data", type=Path, help="prepared dataset, .h5, or a folder of images with train and test; the card's by default")
    parser.add_argument("--network", default="convnet3", help="what is trained; convnet3 by default")
    parser.add_argument("--protocol", help="how it is trained, dsa or idc; as the set's card says by default, dsa without one")
    parser.add_argument("--seeds", type=int, default=5, help="trainings; 5 by default")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where a dataset is made; results by default")
    arguments.add(parser, "device", "no-flip")
    a = parser.parse_args()
    print(run(a.set, a.data, a.network, a.results, a.device, a.protocol, seeds=a.seeds, seed=0, flip=False if a.no_flip else None))

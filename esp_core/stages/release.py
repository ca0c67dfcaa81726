"""Released condensed sets: files to download and train on, each with a card that says how it was made and how accurate it is.

    python -m esp_core release make CONFIG [--tests CONFIG …] [--results results] [--only digits/1/esp …] [--out released]

It copies what a study has distilled and tested: sets, cards and, below `evaluated`, the rows behind the cards. `--tests` names more studies
that tested the same sets, such as config/networks.yaml. A card is the YAML file beside the set; README.md in the folder lists all.
`python -m esp_core evaluate SET` repeats the test of a card.
"""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from esp_core.datasets.official import sha256
from esp_core.reporting import reading, rendering, table_text
from esp_core.runtime import files
from esp_core.runtime.errors import UserError, command
from esp_core.study import arguments
from esp_core.study.config import Study, load
from esp_core.study.job_specs import spec
from esp_core.study.layouts import DATASET_TITLES, METHOD_TITLES, NETWORK_TITLES
from esp_core.study.output_paths import output

Card = dict[str, Any]
MADE = ("device", "torch", "seconds", "peak_memory_bytes", "code", "precision", "compiled", "learned", "saturated")  # copied into a card
HEAD = "A set's card, the YAML file beside it, says how it was made and tested. Accuracies are percent, mean ± deviation (trainings)."


Tested = dict[tuple[str, ...], tuple[Study, Path]]  # by job, the study that tested a set, and its rows


def make(study: Study, results: Path, out: Path, only: list[str] | None, others: Sequence[Study] = ()) -> list[str]:
    """Put the distilled and tested sets of `study` into `out`; return their names. Raises UserError if a requested one is missing.

    Tests are those of `study` and, of the same sets, of `others`. Imported sets are not released; that is for their makers.
    """
    cells = {"/".join(map(str, cell)): cell for cell in study.condensed() if not study.is_imported(cell[2])}
    if unknown := sorted(set(only or ()) - cells.keys()):
        raise UserError(f"--only: {', '.join(unknown)} is no set of the study {study.name}; name DATASET/IPC/METHOD")
    released = []
    for name in only or cells:
        source = results / output(study.name, "distill", *map(str, cells[name]))
        tested: Tested = {}
        for one in (study, *others):
            for job in (("evaluate", *map(str, row)) for row in one.rows() if row[:3] == cells[name]):
                if (path := results / output(one.name, *job)).is_file():
                    tested.setdefault(job, (one, path))
        if source.is_file() and tested:
            _publish(study, source, out / study.name / "{}-ipc-{}-{}.safetensors".format(*cells[name]), tested)
            for job, (_, path) in tested.items():
                files.write(out / output(study.name, *job), path.read_bytes())
            released.append(name)
        elif only:
            raise UserError(f"{source}: not distilled or not tested yet; run the study first, or leave it out of --only")
    files.write(out / "README.md", _index(out))
    return released


def _publish(study: Study, source: Path, target: Path, tested: Tested) -> None:
    """Write the set, its picture and its card."""
    from esp_core.distillation.condensed import load_condensed
    from esp_core.reporting.saving import save
    from esp_core.stages import grids

    condensed = load_condensed(source)
    made, job = condensed.metadata, condensed.metadata["spec"]
    title = study.methods[job["method"]].get("title", METHOD_TITLES.get(job["method"], job["method"]))
    date = time.strftime("%Y-%m-%d", time.gmtime(source.stat().st_mtime))
    card = {
        "set": target.name,
        "sha256": sha256(source),
        "method": {"name": job["method"], "title": title, **job["recipe"]},
        "dataset": {"name": job["dataset"], "prepare": spec(study, "prepare", job["dataset"])},
        "ipc": job["ipc"],
        "images": made["images"],
        "numbers": {"used": made["budget_used"], "budget": made["budget"]},
        "network": job["network"],
        "experts": study.experts(job["dataset"]) if job["experts"] else None,
        "seed": job["study_seed"],
        "made": {"date": date, **{key: made[key] for key in MADE if key in made}},
        "tests": {evaluated[-1]: _test(path) | {"spec": spec(one, *evaluated)} for evaluated, (one, path) in tested.items()},
    }
    with files.replacing(target) as temporary:
        shutil.copyfile(source, temporary)
    plain = json.loads(json.dumps(card))  # else YAML would write references for repeated values
    files.write(target.with_suffix(".yaml"), yaml.safe_dump(plain, sort_keys=False, width=140))
    save(grids.grid([grids.panel(condensed, job["method"], title)], f"{job['dataset']}: synthetic images"), target.with_suffix(".png"))
    target.with_suffix(".pdf").unlink()


def _test(path: Path) -> Card:
    """The accuracy of a network trained on a set, from its rows."""
    frame = reading.read([path])
    return {
        "mean": round(float(frame.accuracy.mean()), 4),
        "std": round(float(frame.accuracy.std()), 4) if len(frame) > 1 else None,
        "n": len(frame),
        **{key: frame[key].iloc[0] for key in ("device", "torch", "precision") if key in frame},
        "hours": round(frame.seconds.astype(float).sum() / 3600, 2),
    }


def _index(out: Path) -> str:
    """README.md: its present text above the first table, then a table for each study of all cards below `out`."""
    cards = {path.relative_to(out): read_card(path) for path in sorted(out.glob("*/*.yaml"))}
    if not cards:
        raise UserError(f"{out}: no set to release; run the study first")
    readme = out / "README.md"
    head = readme.read_text("utf-8").partition("\n## ")[0].partition("\n\n")[2].strip() if readme.is_file() else HEAD
    parts: list[rendering.Part] = [head]
    for study in dict.fromkeys(path.parent for path in cards):
        own = sorted((card["ipc"], path.as_posix(), card) for path, card in cards.items() if path.parent == study)
        table = pd.DataFrame([_line(Path(path), card) for _, path, card in own]).fillna("").set_index(["set", "dataset", "IPC", "method"])
        parts += [f"## {study}", table[[*table.columns.drop("made"), "made"]]]
    return rendering.markdown("Released sets", parts)


def _line(path: Path, card: Card) -> dict[str, str]:
    """The line of a card in the list, by column."""
    name = card["dataset"]["name"]
    return {
        "set": f"[{path.stem}]({path.with_suffix('.png').as_posix()})",
        "dataset": DATASET_TITLES.get(name, name),
        "IPC": str(card["ipc"]),
        "method": card["method"]["title"],
        "images": str(card["images"]),
        "numbers": f"{card['numbers']['used']:,}",
        **{NETWORK_TITLES.get(network, network): f"{spread(one, 1)} ({one['n']})" for network, one in card["tests"].items()},
        "made": f"{card['made']['date']}, {card['made']['device']}, torch {card['made']['torch']}",
    }


def spread(one: Card, digits: int) -> str:
    """Mean and standard deviation as text; a single run has no deviation."""
    return table_text.spread(one["mean"], one["std"], digits)


def read_card(path: Path) -> Card:
    """The card at `path`. Raises UserError if it is not a card."""
    try:
        card = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {key: card[key] for key in ("set", "sha256", "method", "dataset", "ipc", "images", "numbers", "made", "tests")}
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no card of a released set ({type(error).__name__}); get it again with its set") from None


@command
def main() -> None:
    parser = arguments.named("release", __doc__)
    stages = parser.add_subparsers(dest="stage", required=True)
    one = stages.add_parser("make", help="put a study's condensed sets into a folder, with cards")
    one.add_argument("config", type=Path, help="the study")
    one.add_argument("--tests", type=Path, nargs="+", default=[], metavar="CONFIG", help="more studies that tested the same sets")
    one.add_argument("--only", nargs="+", metavar="DATASET/IPC/METHOD", help="these sets; all that are tested by default")
    one.add_argument("--out", type=Path, default=Path("released"))
    one.add_argument("--results", type=Path, default=Path("results"))
    args = parser.parse_args()
    names = make(load(args.config), args.results, args.out, args.only, [load(path) for path in args.tests])
    print(f"{args.out}: {len(names)} sets")

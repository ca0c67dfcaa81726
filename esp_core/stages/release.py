"""Released condensed sets: files to download and to train on, each with a card that says how it was made and what it is worth.

    python -m esp_core release make config/demo.yaml [--results results] [--only digits/1/esp …] [--out released]
    python -m esp_core release test released/demo/digits-ipc-1-esp.safetensors [--network convnet3] [--seeds 5]

`make` takes what a study has distilled and tested: sets, cards, and below `evaluated` the rows behind the cards. `test` trains networks on
a set by its card's protocol, on the card's dataset, and prints their accuracy beside the card's. A card is the YAML file beside the set;
README.md in the folder lists all.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import yaml

from esp_core.datasets.official import sha256
from esp_core.runtime import files
from esp_core.runtime.errors import UserError, command
from esp_core.study.config import Study, load
from esp_core.study.layouts import DATASET_TITLES, METHOD_TITLES, NETWORK_TITLES
from esp_core.study.methods import FULL
from esp_core.study.specs import spec

Card = dict[str, Any]
LIMIT = 10_000_000  # bytes of a set
MADE = ("device", "torch", "seconds", "peak_memory_bytes", "code", "precision", "compiled", "learned", "saturated")  # what a card repeats
HEAD = """# Released sets

Written by `python -m esp_core release make`. A set is loaded in one line,

```python
data = esp_core.load_condensed("released/{example}")    # data.images, data.labels, data.normalise
```

and tested again, on a processor or a GPU, by one command:

```sh
python -m esp_core release test released/{example}
```

The card beside a set, a YAML file of the same name, holds the recipe, the experts, the seeds, the protocol of every test, and where and
when it was made. Accuracies are percent of the test images, mean ± standard deviation over n trainings with different seeds. The rows
behind them, one a training, lie below `evaluated` of each folder.
"""


def make(study: Study, results: Path, out: Path, only: list[str] | None) -> list[Path]:
    """Put the distilled and tested sets of `study` into `out`; the copies. Raises UserError where one asked for is not there."""
    from esp_core.reporting import runs

    own, copies = results / study.name, []
    for dataset, ipc, method in study.condensed():
        source = own / "distilled" / dataset / f"ipc-{ipc}" / f"{method}.safetensors"
        tests = _tests(study, own, dataset, ipc, method)
        if only is not None and f"{dataset}/{ipc}/{method}" not in only:
            continue
        if not source.is_file() or not tests:
            if only is not None:
                raise UserError(f"{source}: not distilled or not tested yet; run the study first, or leave it out of --only")
            continue
        if (size := source.stat().st_size) > LIMIT:
            print(f"{source}: left out, its {size:,} bytes are more than {LIMIT:,}")
            continue
        copies.append(_copy(study, source, out / study.name / f"{dataset}-ipc-{ipc}-{method}.safetensors", tests))
        for network in tests:
            rows = [runs.path_of(root, dataset, ipc, method, network) for root in (own, out / study.name)]
            files.write(rows[1], rows[0].read_text(encoding="utf-8"))
    if missing := sorted(set(only or ()) - {"/".join(map(str, cell)) for cell in study.condensed()}):
        raise UserError(f"--only: {', '.join(missing)} is no set of the study {study.name}; name DATASET/IPC/METHOD")
    files.write(out / "README.md", _index(out))
    return copies


def _tests(study: Study, own: Path, dataset: str, ipc: int, method: str) -> dict[str, Card]:
    """What each network made of the set, and the spec to do it again."""
    from esp_core.reporting import runs

    found: dict[str, Card] = {}
    for row in study.rows():
        path = runs.path_of(own, *row)
        if row[:3] != (dataset, ipc, method) or method == FULL or not path.is_file():
            continue
        frame = runs.read(path, *row)
        found[row[3]] = {
            "mean": round(float(frame.accuracy.mean()), 4),
            "std": round(float(frame.accuracy.std()), 4),
            "n": len(frame),
            **{key: frame[key].iloc[0] for key in ("device", "torch", "precision") if key in frame},
            "hours": round(frame.seconds.astype(float).sum() / 3600, 2),
            "spec": spec(study, "evaluate", dataset, str(ipc), method, row[3]),
        }
    return found


def _copy(study: Study, source: Path, target: Path, tests: dict[str, Card]) -> Path:
    """The set, its picture and its card."""
    from esp_core.distillation.condensed import load_condensed
    from esp_core.reporting.saving import save
    from esp_core.stages import figures

    condensed = load_condensed(source)
    made, (dataset, ipc, method) = condensed.metadata, (condensed.metadata["spec"][key] for key in ("dataset", "ipc", "method"))
    title = study.methods[method].get("title", METHOD_TITLES.get(method, method))
    card = {
        "set": target.name,
        "sha256": sha256(source),
        "method": {"name": method, "title": title, **made["spec"]["recipe"]},
        "dataset": {"name": dataset, "prepare": spec(study, "prepare", dataset)},
        "ipc": ipc,
        "images": made["images"],
        "numbers": {"used": made["budget_used"], "budget": made["budget"]},
        "network": made["spec"]["network"],
        "experts": study.experts(dataset) if made["spec"]["experts"] else None,
        "seed": made["spec"]["study_seed"],
        "made": {
            "date": time.strftime("%Y-%m-%d", time.gmtime(source.stat().st_mtime)),
            **{key: made[key] for key in MADE if key in made},
        },
        "tests": tests,
    }
    with files.replacing(target) as temporary:
        shutil.copyfile(source, temporary)
    files.write(target.with_suffix(".yaml"), _yaml(card))
    save(figures.grid([figures.panel(condensed, method, title)], f"{dataset}: synthetic images"), target.with_suffix(".png"))
    target.with_suffix(".pdf").unlink()
    return target


def _yaml(card: Card) -> str:
    """YAML without the references that it makes of values which occur twice."""
    return str(yaml.safe_dump(json.loads(json.dumps(card)), sort_keys=False, width=140))


def _index(out: Path) -> str:
    """README.md: all cards below `out`, a table a study."""
    cards = {path.relative_to(out): read_card(path) for path in sorted(out.glob("*/*.yaml"))}
    if not cards:
        raise UserError(f"{out}: no set to release; run the study first")
    parts = [HEAD.format(example=next(iter(cards)).with_suffix(".safetensors"))]
    for name in dict.fromkeys(path.parent for path in cards):
        own = {path: card for path, card in cards.items() if path.parent == name}
        networks = list(dict.fromkeys(network for card in own.values() for network in card["tests"]))
        titles = ["set", "dataset", "IPC", "method", "images", "numbers", *(NETWORK_TITLES.get(n, n) for n in networks), "made"]
        lines = [f"## {name}", "", f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
        lines += [_line(path, card, networks) for path, card in sorted(own.items(), key=lambda item: (item[1]["ipc"], str(item[0])))]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _line(path: Path, card: Card, networks: list[str]) -> str:
    tests = [f"{t['mean']:.1f} ± {t['std']:.1f} ({t['n']})" if (t := card["tests"].get(n)) else "" for n in networks]
    dataset = card["dataset"]["name"]
    link = f"[{card['set'].removesuffix('.safetensors')}]({path.with_suffix('.png')})"
    made = f"{card['made']['date']}, {card['made']['device']}, torch {card['made']['torch']}"
    numbers = f"{card['numbers']['used']:,}"
    words = [link, DATASET_TITLES.get(dataset, dataset), card["ipc"], card["method"]["title"], card["images"], numbers, *tests, made]
    return f"| {' | '.join(map(str, words))} |"


def read_card(path: Path) -> Card:
    """The card at `path`. Raises UserError where it is none."""
    try:
        card = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {key: card[key] for key in ("set", "sha256", "method", "dataset", "ipc", "images", "numbers", "made", "tests")}
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no card of a released set ({type(error).__name__}); get it again with its set") from None


def test(path: Path, network: str, data: Path | None, seeds: int, device: str, results: Path) -> str:
    """Train `network` on the set at `path` by its card's protocol; a line with its accuracy and the card's.

    Without `data`, the prepared dataset, it is made below `results`, official files included.
    """
    from statistics import mean, stdev

    from esp_core.stages import evaluate

    card = read_card(path.with_suffix(".yaml"))
    if not path.is_file() or sha256(path) != card["sha256"]:
        raise UserError(f"{path}: not the set of its card; get both again")
    if network not in card["tests"]:
        raise UserError(f"--network {network}: the card tells of {', '.join(card['tests'])}")
    said = card["tests"][network]
    job = {**said["spec"], "seeds": seeds, "device": device}
    found = [float(row["accuracy"]) for row in evaluate.run(job, data or _prepared(card, results), path)]
    spread = f" ± {stdev(found):.2f}" if seeds > 1 else ""
    return f"{network}: {mean(found):.2f}{spread} % (n = {seeds}); the card says {said['mean']:.2f} ± {said['std']:.2f} % (n = {said['n']})"


def _prepared(card: Card, results: Path) -> Path:
    from esp_core.datasets.catalogue import is_official
    from esp_core.datasets.downloading import download
    from esp_core.datasets.preparing import prepare

    job = card["dataset"]["prepare"]
    name, kind = job["dataset"], job["kind"]
    out, listed = results / "released" / "data" / f"{name}.h5", results / "downloads" / name / "files.json"
    if is_official(kind) and not listed.is_file():
        download({"dataset": name, "kind": kind, "mirror": None}, listed)
    prepare(job, out, listed)
    return out


@command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m esp_core release", description=(__doc__ or "").partition("\n")[0])
    stages = parser.add_subparsers(dest="stage", required=True)
    one = stages.add_parser("make", help="put a study's condensed sets into a folder, with cards")
    one.add_argument("config", type=Path, help="the study")
    one.add_argument("--only", nargs="+", metavar="DATASET/IPC/METHOD", help="these sets; all that are tested by default")
    one.add_argument("--out", type=Path, default=Path("released"))
    other = stages.add_parser("test", help="train networks on a released set and compare with its card")
    other.add_argument("set", type=Path)
    other.add_argument("--network", default="convnet3")
    other.add_argument("--data", type=Path, help="the prepared dataset; made anew without it")
    other.add_argument("--seeds", type=int, default=5)
    other.add_argument("--device", default="auto")
    for stage in (one, other):
        stage.add_argument("--results", type=Path, default=Path("results"))
    args = parser.parse_args()
    if args.stage == "make":
        copies = make(load(args.config), args.results, args.out, args.only)
        print(f"{args.out}: {len(copies)} sets")
    else:
        print(test(args.set, args.network, args.data, args.seeds, args.device, args.results))

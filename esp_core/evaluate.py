"""Stage `evaluate`: train a network on a condensed set, or on the whole training set, once a seed, and test it.

python -m esp_core.evaluate --spec JSON --data D.h5 [--condensed S.safetensors] --out R.csv
"""

import argparse
import csv
import io
import json
import time
from pathlib import Path
from typing import Any

from esp_core.errors import command
from esp_core.progress import Progress
from esp_core.provenance import canonical, digest

COLUMNS = (
    "dataset,ipc,method,network,seed,accuracy,epochs,protocol,budget,budget_used,images,parameters,seconds,"
    "peak_memory_bytes,device,torch,spec,code,curve"
).split(",")
CURVE = 50  # training losses that a row keeps at most, evenly spaced over the epochs, the last one included


def run(spec: dict[str, Any], data_path: Path, condensed_path: Path | None, code: str = "") -> list[dict[str, Any]]:
    """One row a seed, as `COLUMNS` names them: accuracy in percent on the test split after the last epoch.

    `curve` is the learning curve, "epoch:loss" separated by spaces, the mean training loss of up to `CURVE` epochs, from 1.
    """
    from esp_core import datasets, devices
    from esp_core.condensed import load_condensed
    from esp_core.training import Images, protocol

    devices.reuse_memory()
    device = devices.pick(spec.get("device", "auto"))
    data = datasets.load(data_path, device, spec.get("validation"))
    budget: dict[str, int] = {"budget": 0, "budget_used": 0}
    if condensed_path is None:
        train = Images(data.train.images, data.train.labels, data)
    else:
        condensed = load_condensed(condensed_path)
        train = Images(condensed.images, condensed.labels, data)
        budget = {key: condensed.metadata[key] for key in budget}
    test = Images(data.test.images, data.test.labels, data)
    shared = {
        **{key: spec[key] for key in ("dataset", "ipc", "method")},
        "network": spec["network"]["name"],
        "epochs": spec["protocol"]["epochs"],
        "protocol": f"{spec['protocol']['name']}-{digest(canonical(spec['protocol']))[:8]}",
        **budget,
        "images": len(train),
        "spec": digest(canonical(spec)),
        "code": code,
        **{key: value for key, value in devices.describe(device).items() if key != "threads"},
    }
    label = f"{spec['dataset']} ipc {spec['ipc']} {spec['method']} on {spec['network']['name']}"
    progress = Progress(label, spec["seeds"], unit="seeds", every=0)
    rows = []
    for seed in range(spec["seeds"]):
        rows.append({**shared, "seed": seed, **_one(spec, data, train, test, protocol(spec["protocol"]), seed)})
        progress.step(f"accuracy {rows[-1]['accuracy']} %")
    return [{column: row[column] for column in COLUMNS} for row in rows]


def _one(spec: dict[str, Any], data: Any, train: Any, test: Any, settings: Any, seed: int) -> dict[str, Any]:
    """Train and test one network. Its weights and draws come from (study seed, "evaluate", seed): the same for all methods."""
    import torch

    from esp_core import devices, networks, seeds, training

    names = (spec["study_seed"], "evaluate", seed)
    channels, size, _ = data.shape
    device = data.mean.device
    network = networks.build(
        **spec["network"], channels=channels, size=size, classes=len(data.classes), seed=seeds.derive(*names, "network")
    ).to(device)
    torch.manual_seed(seeds.derive(*names, "dropout"))  # dropout and stochastic depth draw from torch's own generator
    start = time.monotonic()
    losses = training.train(network, train, settings, seeds.generator(*names, "training"))
    result = f"{training.accuracy(network, test):.4f}"
    devices.synchronise(device)
    return {
        "accuracy": result,
        "parameters": sum(p.numel() for p in network.parameters()),
        "seconds": round(time.monotonic() - start, 2),
        "peak_memory_bytes": devices.peak_memory(device),
        "curve": _curve(losses),
    }


def _curve(losses: list[float]) -> str:
    count = min(CURVE, len(losses))
    epochs = [round(len(losses) * (i + 1) / count) for i in range(count)]
    return " ".join(f"{epoch}:{losses[epoch - 1]:.4g}" for epoch in epochs)


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """The rows as CSV, whole or not at all."""
    from esp_core import files

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write(out, text.getvalue())


@command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m esp_core.evaluate", description=__doc__.partition("\n")[0])
    parser.add_argument("--spec", type=json.loads, required=True, help="JSON, as `python -m esp_core.study CONFIG evaluate …` prints it")
    parser.add_argument("--data", type=Path, required=True, help="prepared dataset, .h5")
    parser.add_argument("--condensed", type=Path, help="condensed set; without it the whole training set is used")
    parser.add_argument("--out", type=Path, required=True, help="a row a seed, .csv")
    parser.add_argument("--code", default="", help="digest of the code that runs, recorded in every row")
    args = parser.parse_args()
    write(run(args.spec, args.data, args.condensed, args.code), args.out)


if __name__ == "__main__":
    main()

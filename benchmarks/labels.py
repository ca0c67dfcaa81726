"""Whether soft labels would pay: a method's sets with hard labels, and with what the experts say of each image.

    snakemake all_experts --configfile docs/choices/search.yaml
    python -m benchmarks.labels docs/choices/search.yaml --method direction_10 --out docs/choices/labels.csv

"image": the mean of the experts' last probabilities for the image; "half": the mean of that and the hard label; "code": the mean of
"image" over the images of one code. Of each image these are as many numbers as there are classes; here they are not counted. The same
seeds, sets and draws for all, so that differences are paired. Interrupted, the same command goes on.
"""

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from benchmarks.choices import COLUMNS, table
from esp_core import datasets, networks
from esp_core.datasets import Dataset
from esp_core.distillation.condensed import Condensed, load_condensed
from esp_core.networks.flat import FlatNetwork
from esp_core.runtime import files
from esp_core.stages import distill
from esp_core.stages.evaluate import Evaluation
from esp_core.study.config import Study, load
from esp_core.study.job_specs import spec
from esp_core.trajectories.reader import Trajectories


def labelled(made: Condensed, soft: Tensor) -> dict[str, Tensor | None]:
    """The labels (n, K) that are compared, by name; None is hard."""
    hard = torch.eye(len(made.classes))[made.labels]
    images = made.metadata["spec"]["recipe"]["parametrisation"]["decoders"]
    code = soft.unflatten(0, (-1, images)).mean(1).repeat_interleave(images, 0)
    return {"hard": None, "image": soft, "half": (soft + hard) / 2, "code": code}


def said_by_experts(made: Condensed, study: Study, dataset: str, data: Dataset, manifest: Path) -> Tensor:
    """(n, K), the mean over the experts of the probabilities that they give the images at the end of their training."""
    network = networks.build(
        **study.distill_network(dataset), channels=data.shape[0], size=data.shape[1], classes=len(data.classes), seed=0
    )
    flat, experts = FlatNetwork(network), Trajectories(manifest, torch.device("cpu"))
    with torch.no_grad():
        inputs = made.normalise(made.images)
        last = (experts.snapshot(number, experts.snapshots - 1) for number in range(len(experts)))
        return torch.stack([flat(theta, inputs)[1].softmax(1) for theta in last]).mean(0)


def measure(study: Study, method: str, seed: int, root: Path) -> Iterator[dict[str, Any]]:
    """Rows of `COLUMNS`, one a kind of labels."""
    dataset, ipc = study.cells[0]
    path, manifest = root / "data" / f"{dataset}.h5", root / "experts" / dataset / "manifest.json"
    job = {**spec(study, "distill", dataset, str(ipc), method), "study_seed": seed}
    test = {**spec(study, "evaluate", dataset, str(ipc), method, study.networks[0]), "study_seed": seed, "seeds": 1}
    data = datasets.load(path, torch.device("cpu"), job.get("validation"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.safetensors"
        distill.run(job, path, manifest, out)
        made = load_condensed(out)
    for name, soft in labelled(made, said_by_experts(made, study, dataset, data, manifest)).items():
        start = time.process_time()
        own = test if soft is None else {**test, "protocol": {**test["protocol"], "soft_labels": "cross_entropy"}}
        row = Evaluation(own, data, replace(made, soft=soft)).rows()[0]
        yield {**row, "method": name, "seed": seed, "seconds": round(time.process_time() - start, 1)}


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--method", required=True, help="whose sets are labelled; a latent one, whose teachers are experts")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="a row a kind of labels and seed, .csv")
    args = parser.parse_args()
    study = load(args.config)
    rows = pd.read_csv(args.out).to_dict("records") if args.out.exists() else []
    for seed in sorted(set(range(args.seeds)) - {row["seed"] for row in rows}):
        rows += [{column: row[column] for column in COLUMNS} for row in measure(study, args.method, seed, Path("results") / study.name)]
        files.write(args.out, pd.DataFrame(rows).to_csv(index=False, quoting=csv.QUOTE_MINIMAL))
    print(table(pd.read_csv(args.out), "hard"))


if __name__ == "__main__":
    sys.exit(main())

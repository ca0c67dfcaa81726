"""Stage `evaluate`: train a network on a condensed set, or on the complete training set, once per seed, and test it.

python -m esp_core evaluate --spec JSON --data D.h5 [--condensed S.safetensors] --out R.csv

Without --spec, runs `stages.evaluate_set`, which needs no Snakemake.
"""

import csv
import importlib
import io
import sys
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esp_core.runtime.errors import command
from esp_core.study import arguments
from esp_core.study.provenance import canonical, digest

if TYPE_CHECKING:
    from torch import nn

    from esp_core.datasets import Dataset
    from esp_core.distillation.condensed import Condensed
    from esp_core.training.engine import Engine, Plan

Spec = dict[str, Any]
Row = dict[str, Any]
COLUMNS = (
    "dataset,ipc,method,network,seed,accuracy,epochs,protocol,budget,budget_used,saturated,images,parameters,seconds,"
    "peak_memory_bytes,device,torch,precision,compiled,spec,code,curve"
).split(",")
CURVE = 50  # maximum training losses in a row, evenly spaced over the epochs, the last one included


def run(
    spec: Spec, data_path: Path, condensed_path: Path | None, code: str = "", part: Path | None = None, device: str = "auto"
) -> list[Row]:
    """One row per seed, with `COLUMNS`, from the files of a job; see `Evaluation.rows`."""
    from esp_core import datasets
    from esp_core.distillation.condensed import check_data, load_condensed
    from esp_core.runtime import devices

    devices.reuse_memory()
    data = datasets.load(data_path, devices.pick(device), spec.get("validation"))
    if condensed_path is None:
        return Evaluation(spec, data, None, code).rows(part)
    condensed = load_condensed(condensed_path)
    check_data(condensed_path, condensed, data)
    return Evaluation(spec, data, condensed, code, made_of=digest(condensed_path.read_bytes())).rows(part)


class Evaluation:
    """Trains networks on a condensed set or, without one, on the training images of `data`, and tests them on its test images.

    It runs on the device of `data`. `made_of` is a digest of the set, which identifies rows that a resumed job can reuse.
    Raises UserError if `spec` asks for something that the images or the device do not allow.
    """

    def __init__(self, spec: Spec, data: "Dataset", condensed: "Condensed | None" = None, code: str = "", made_of: str = ""):
        from esp_core.networks import trial
        from esp_core.runtime import devices
        from esp_core.training.epoch import Images
        from esp_core.training.protocol import Protocol, labels_of

        self.spec, self.data, self.device = spec, data, data.train.images.device
        self.title = f"{spec['dataset']} ipc {spec['ipc']} {spec['method']}"
        self.protocol = Protocol.from_spec(spec["protocol"])
        facts: dict[str, Any] = {"budget": 0, "budget_used": 0, "saturated": 0.0}
        if condensed is None:
            self.train = Images(data.train.images, data.train.labels, data)
        else:
            labels = labels_of(self.protocol, condensed.labels, condensed.soft, self.title)
            self.train = Images(condensed.images, labels, data)
            self.protocol = replace(self.protocol, lr=condensed.lr) if self.protocol.learned_lr and condensed.lr else self.protocol
            facts |= {key: condensed.metadata[key] for key in facts if key in condensed.metadata}
        channels, size, _ = data.shape
        trial.check(spec["network"], channels, size, len(data.classes))
        self.test = Images(data.test.images, data.test.labels, data)
        self.network = self._network(0)
        self.plan = self._plan()
        machine = devices.describe(self.device)
        self.shared = {
            **{key: spec[key] for key in ("dataset", "ipc", "method")},
            "network": spec["network"]["name"],
            "epochs": spec["protocol"]["epochs"],
            "protocol": ", ".join([f"{spec['protocol']['name']}-{digest(canonical(spec['protocol']))[:8]}", *_of_labels(spec["protocol"])]),
            **facts,
            "images": len(self.train),
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "spec": digest(canonical(spec)),
            "code": code,
            "device": machine["device"],
            "torch": machine["torch"],
            "precision": devices.arithmetic(self.plan.precision, self.device),
        }
        known = {"spec": spec, "code": code, "data": data.digest, "condensed": made_of, **machine, **self.plan.record()}
        self.identity = digest(canonical(known))

    def rows(self, part: Path | None = None) -> list[Row]:
        """One row per seed, with `COLUMNS`: accuracy in percent on the test split after the last epoch.

        `curve` is the learning curve, "epoch:loss" separated by spaces: the mean training loss of up to `CURVE` epochs, from 1. `part` is a
        file for the rows of finished seeds, which the next run of the same job on the same kind of machine reuses.
        """
        from esp_core.runtime.progress import Progress
        from esp_core.runtime.seedrows import SeedRows

        kept = SeedRows(part, self.identity) if part else None
        rows = dict(kept.rows) if kept else {}
        label = f"{self.title} on {self.spec['network']['name']}"
        progress = Progress(label, self.spec["seeds"], done=len(rows), unit="seeds", every=0)
        for seed in range(self.spec["seeds"]):
            if seed not in rows:
                rows[seed] = row = self.train_and_test(seed)
                if kept:
                    kept.add(row)
                progress.step(f"accuracy {row['accuracy']} %")
        return [{column: rows[seed][column] for column in COLUMNS} for seed in range(self.spec["seeds"])]

    def _plan(self) -> "Plan":
        """The plan for the complete job, so that an interrupted job resumes with the same plan.

        A spec without the keys `precision` and `compile` is older than them; everything was float32 and eager then.
        """
        from esp_core.training import engine
        from esp_core.training.compile_policy import Work
        from esp_core.training.epoch import sizes

        precision, wish = self.spec.get("precision", "float32"), self.spec.get("compile", "never")
        once = sizes(len(self.train), self.protocol.batch, self.protocol.epochs)
        trained = {size: n * self.spec["seeds"] for size, n in once.items()}
        work = Work(trained, self.spec["seeds"] * len(self.test))
        return engine.plan(self.network, self.train.sample(), work, precision, wish, section="evaluation")

    @cached_property
    def engine(self) -> "Engine":
        """Created, and compiled, when the first network is trained."""
        from esp_core.training.engine import Engine

        for note in self.plan.notes:
            print(f"evaluation: {note}", flush=True)
        return Engine(self.network, self.plan, self.train.sample())

    def train_and_test(self, seed: int) -> Row:
        """The row of one seed. Weights and draws depend on (study seed, "evaluate", seed), not on the method."""
        import torch

        from esp_core.runtime import devices, seeds
        from esp_core.training import epoch, protocol

        engine, name = self.engine, (self.spec["study_seed"], "evaluate", seed)
        engine.load(self._network(seed))
        torch.manual_seed(seeds.derive(*name, "dropout"))  # dropout and stochastic depth draw from torch's own generator
        start = time.monotonic()
        losses = protocol.train(engine.network, self.train, self.protocol, seeds.generator(*name, "training"), engine)
        accuracy = epoch.accuracy(engine.network, self.test, forward=engine)
        devices.synchronise(self.device)
        return {
            **self.shared,
            "seed": seed,
            "accuracy": f"{accuracy:.4f}",
            "curve": _curve(losses),
            "seconds": round(time.monotonic() - start, 2),
            "peak_memory_bytes": devices.peak_memory(self.device),
            "compiled": " ".join(map(str, engine.plan.compiled)) or "no",
        }

    def _network(self, seed: int) -> "nn.Module":
        from esp_core import networks
        from esp_core.runtime import seeds

        channels, size, _ = self.data.shape
        own = seeds.derive(self.spec["study_seed"], "evaluate", seed, "network")
        network = networks.build(**self.spec["network"], channels=channels, size=size, classes=len(self.data.classes), seed=own)
        return network.to(self.device)


def _of_labels(protocol: Spec) -> list[str]:
    """A protocol's settings of soft labels and learned rates as text, repeated in the tables' notes."""
    return [f"{key} {protocol[key]}" for key in ("soft_labels", "temperature", "learned_lr") if key in protocol]


def _curve(losses: list[float]) -> str:
    count = min(CURVE, len(losses))
    epochs = [round(len(losses) * (i + 1) / count) for i in range(count)]
    return " ".join(f"{epoch}:{losses[epoch - 1]:.4g}" for epoch in epochs)


def finish(spec: Spec, data_path: Path, condensed_path: Path | None, out: Path, code: str = "", device: str = "auto") -> None:
    """`run`, resuming an interrupted job, and write its rows as CSV to `out`, atomically."""
    from esp_core.runtime import files

    part, text = out.with_name(out.name + ".part"), io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(run(spec, data_path, condensed_path, code, part, device))
    files.write(out, text.getvalue())
    files.discard(part)


@command
def main() -> None:
    if not any(word.partition("=")[0] == "--spec" for word in sys.argv):
        # Imported by name, so that a change to that tool reruns no evaluation.
        importlib.import_module("esp_core.stages.evaluate_set").main()
        return
    parser = arguments.parser("evaluate", __doc__, "a row a seed, .csv", "data", "code", "device")
    parser.add_argument("--condensed", type=Path, help="condensed set; without it the whole training set is used")
    args = parser.parse_args()
    finish(args.spec, args.data, args.condensed, args.out, args.code, args.device)

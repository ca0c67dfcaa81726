"""Trains the experts of one shard; resumes a killed job."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from esp_core import networks
from esp_core.datasets.dataset import Dataset, load
from esp_core.networks import trial
from esp_core.networks.flat import FlatNetwork, flatten
from esp_core.runtime import devices, seeds
from esp_core.runtime.errors import UserError
from esp_core.runtime.progress import Progress
from esp_core.trajectories import store
from esp_core.trajectories.checkpoint import Part, Record, unfinished
from esp_core.trajectories.trainer import Recipe, Trainer, settings


def produce(spec: dict[str, Any], code: str, data_path: Path, out: Path, device: str = "auto") -> None:
    """Train the experts first .. first + count - 1 of `spec` and write them to `out`.

    Resumes from `out`.part if a killed job of the same spec, code and data left one. Raises UserError for a bad spec, data of
    another name, divergence, and a shard that another job is training.
    """
    recipe = settings(spec["training"])
    if not 2 <= spec["keep"] <= recipe.epochs + 1:
        raise UserError(f"experts.keep: {spec['keep']} snapshots; a trajectory of {recipe.epochs} epochs has 2 to {recipe.epochs + 1}")
    place = devices.pick(device)
    data = load(data_path, place, spec.get("validation"))
    if data.name != spec["dataset"]:
        raise UserError(f"{data_path}: holds {data.name}, not {spec['dataset']}; give the data of {spec['dataset']}")
    shard = _Shard(spec, recipe, data)
    identity = {"spec": spec, "code": code, "data": data.digest}
    with unfinished(out, identity) as part:
        for note in filter(None, (*shard.trainer.plan.notes, part.note)):
            print(f"experts: {note}", flush=True)
        for left in out.parent.glob(f".{out.stem}-*{out.suffix}"):  # left by a job that was killed while it wrote the shard
            left.unlink()
        facts = identity | {"layout": shard.layout, "engine": shard.engine}
        store.write(out, facts, shard.experts(part), spec["count"], spec["keep"], recipe.epochs)


class _Shard:
    """The experts of one shard, trained one after the other in the same network object."""

    def __init__(self, spec: dict[str, Any], recipe: Recipe, data: Dataset):
        self.spec, self.recipe, self.data = spec, recipe, data
        self.device = data.train.images.device
        channels, size, _ = data.shape
        trial.check(spec["network"], channels, size, len(data.classes), trial.TEACHES)
        network = self._network(spec["first"])
        self.layout = FlatNetwork(network).layout
        self.trainer = Trainer(network, recipe, data)
        self.engine = devices.describe(self.device) | self.trainer.plan.record()

    def experts(self, part: Part) -> Iterator[store.Expert]:
        """Yield each expert when it is finished; epochs that `part` holds are not trained again."""
        first, count, epochs = self.spec["first"], self.spec["count"], self.recipe.epochs
        progress = Progress("experts", count * epochs, done=part.epochs(), unit="epochs")
        for expert in range(first, first + count):
            records = [part.read(expert, 0) or self._begin(expert, part)]
            for epoch in range(1, epochs + 1):
                records.append(part.read(expert, epoch) or self._train(expert, epoch, records[-1], part, progress))
            yield self._finished(expert, records)

    def _begin(self, expert: int, part: Part) -> Record:
        record = Record({"weights": flatten(self._network(expert)).cpu()}, math.nan, 0.0)
        part.write(expert, 0, record)
        return record

    def _train(self, expert: int, epoch: int, before: Record, part: Part, progress: Progress) -> Record:
        """The checkpoint of `epoch`, trained from that of the epoch before."""
        start = time.monotonic()
        self.trainer.restore(before.state)
        loss, state = self.trainer.epoch(*self._name(expert), "epoch", epoch), self.trainer.state()
        if not (math.isfinite(loss) and state["weights"].isfinite().all()):
            name = f"{self.spec['dataset']}: expert {expert}"
            raise UserError(f"{name}: diverged in epoch {epoch}, its loss is {loss}; lower experts.lr ({self.recipe.lr})")
        record = Record(state, loss, time.monotonic() - start)
        part.write(expert, epoch, record)
        progress.step(f"expert {expert}, loss {loss:.3f}")
        return record

    def _finished(self, expert: int, records: list[Record]) -> store.Expert:
        snapshots = np.stack([record.state["weights"].numpy() for record in records[: self.spec["keep"]]])
        if (still := store.first_repeat(snapshots)) is not None:
            same = f"snapshots {still} and {still + 1} are equal"
            raise UserError(f"expert {expert}: {same}: nothing was learnt; raise experts.lr ({self.recipe.lr})")
        self.trainer.restore(records[-1].state)
        losses, seconds = [record.loss for record in records[1:]], sum(record.seconds for record in records)
        return store.Expert(*store.encode(snapshots), self.trainer.accuracy(), losses, seconds)

    def _network(self, expert: int) -> nn.Module:
        """The initialised network of an expert."""
        channels, size, _ = self.data.shape
        seed = seeds.derive(*self._name(expert), "init")
        network = networks.build(**self.spec["network"], channels=channels, size=size, classes=len(self.data.classes), seed=seed)
        return network.to(self.device)

    def _name(self, expert: int) -> tuple[int, str, str, int]:
        return self.spec["study_seed"], "experts", self.spec["dataset"], expert

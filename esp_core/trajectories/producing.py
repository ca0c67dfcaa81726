"""Training the experts of one shard, resuming where an earlier job was killed."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from esp_core import networks
from esp_core.datasets.dataset import Dataset, load
from esp_core.networks import trying
from esp_core.networks.flat import FlatNetwork, flatten
from esp_core.runtime import devices, seeds
from esp_core.runtime.errors import UserError
from esp_core.runtime.progress import Progress
from esp_core.training import engine
from esp_core.trajectories import store
from esp_core.trajectories.partial import Part, Record
from esp_core.trajectories.trainer import Recipe, Trainer, prepared, settings


def produce(spec: dict[str, Any], code: str, data_path: Path, out: Path) -> None:
    """Train the experts first .. first + count - 1 of `spec` and write them to `out`.

    Raises UserError for a bad spec, data of another name, divergence, and a shard that another job is training.
    A job that was killed before goes on from `out`.part where that is of the same spec, code and data.
    """
    recipe = settings(spec["training"])
    if not 2 <= spec["keep"] <= recipe.epochs + 1:
        raise UserError(f"experts.keep: {spec['keep']} snapshots; a trajectory of {recipe.epochs} epochs has 2 to {recipe.epochs + 1}")
    device = devices.pick(spec["device"])
    engine.make_deterministic(device)
    data = load(data_path, device, spec.get("validation"))
    if data.name != spec["dataset"]:
        raise UserError(f"{data_path}: holds {data.name}, not {spec['dataset']}; give the data of {spec['dataset']}")
    shard = _Shard(spec, recipe, data)
    identity = {"spec": spec, "code": code, "data": data.digest}
    with Part(out, identity, 2 if recipe.momentum else 1, shard.parameters) as part:
        for note in filter(None, (*shard.notes, part.note)):
            print(f"experts: {note}", flush=True)
        for left in out.parent.glob(f".{out.stem}-*{out.suffix}"):  # by a job that was killed while it wrote the shard
            left.unlink()
        header = identity | {"layout": shard.layout, "engine": shard.engine}
        store.write(out, header, shard.experts(part), spec["count"], spec["keep"], recipe.epochs)
        part.remove()


class _Shard:
    """The experts of one shard, trained one after the other in the same network object."""

    def __init__(self, spec: dict[str, Any], recipe: Recipe, data: Dataset):
        self.spec, self.recipe, self.data = spec, recipe, data
        self.device = data.train.images.device
        channels, size, _ = data.shape
        trying.check(spec["network"], channels, size, len(data.classes), trying.TEACHES)
        network = self._network(spec["first"])
        flat = FlatNetwork(network)
        self.layout: store.Layout = [(name, list(shape)) for name, shape in flat.layout]
        self.parameters = flat.parameters
        images = prepared(data, recipe)
        chosen = engine.plan(network, images.sample(), images.work(recipe), recipe.precision)
        self.notes = chosen.notes
        self.engine = devices.describe(self.device) | chosen.record()
        self.trainer = Trainer(network, recipe, images, chosen)

    def experts(self, part: Part) -> Iterator[store.Expert]:
        """Each expert as soon as it is whole; what `part` holds is not trained again."""
        records = self.recipe.epochs + 1
        done = sum(1 for i in range(len(part)) if i % records)
        progress = Progress("experts", self.spec["count"] * self.recipe.epochs, done=done, unit="epochs")
        for row in range(self.spec["count"]):
            self._finish(self.spec["first"] + row, part, max(0, len(part) - row * records), progress)
            yield self._compact([part[row * records + epoch] for epoch in range(records)])

    def _finish(self, expert: int, part: Part, done: int, progress: Progress) -> None:
        """Train the epochs of `expert` that `part` lacks; `done` of its records are there."""
        if done == 0:
            self.trainer.restore(flatten(self._network(expert))[None])
            part.append(Record(expert, 0, math.nan, 0.0, self.trainer.state().numpy()))
        elif done <= self.recipe.epochs:
            self.trainer.restore(torch.from_numpy(part[len(part) - 1].state))
        for epoch in range(max(done, 1), self.recipe.epochs + 1):
            start = time.monotonic()
            loss = self.trainer.epoch(*self._name(expert), "epoch", epoch)
            if not math.isfinite(loss):
                name = f"{self.spec['dataset']}: expert {expert}"
                raise UserError(f"{name}: the loss is {loss} in epoch {epoch}; lower experts.lr ({self.recipe.lr})")
            part.append(Record(expert, epoch, loss, time.monotonic() - start, self.trainer.state().numpy()))
            progress.step(f"expert {expert}, loss {loss:.3f}")

    def _compact(self, records: list[Record]) -> store.Expert:
        self.trainer.restore(torch.from_numpy(records[-1].state))
        snapshots = np.stack([record.state[0] for record in records[: self.spec["keep"]]])
        losses = [record.loss for record in records[1:]]
        seconds = sum(record.seconds for record in records)
        try:
            return store.compact(snapshots, self.layout, self.trainer.accuracy(), losses, seconds)
        except ValueError as error:
            raise UserError(f"expert {records[0].expert}: {error}: nothing was learnt; raise experts.lr ({self.recipe.lr})") from None

    def _network(self, expert: int) -> nn.Module:
        channels, size, _ = self.data.shape
        seed = seeds.derive(*self._name(expert), "init")
        return networks.build(**self.spec["network"], channels=channels, size=size, classes=len(self.data.classes), seed=seed).to(
            self.device
        )

    def _name(self, expert: int) -> tuple[int, str, str, int]:
        return self.spec["study_seed"], "experts", self.spec["dataset"], expert

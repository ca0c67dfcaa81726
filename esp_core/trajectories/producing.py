"""Training the experts of one shard, resuming where an earlier job was killed."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from esp_core import devices, networks, seeds
from esp_core.datasets.dataset import Dataset, load
from esp_core.errors import UserError
from esp_core.networks.flat import FlatNetwork
from esp_core.progress import Progress
from esp_core.trajectories import store
from esp_core.trajectories.partial import Part, Record
from esp_core.trajectories.training import Images, Recipe, Trainer, settings


def produce(spec: dict[str, Any], code: str, data_path: Path, out: Path) -> None:
    """Train the experts first .. first + count - 1 of `spec` and write them to `out`.

    Raises UserError for a bad spec, data of another name, divergence, and a shard that another job is training.
    """
    recipe = settings(spec["training"])
    if not 2 <= spec["keep"] <= recipe.epochs + 1:
        raise UserError(f"experts.keep: {spec['keep']} snapshots; a trajectory of {recipe.epochs} epochs has 2 to {recipe.epochs + 1}")
    device = devices.pick(spec["device"])
    data = load(data_path, device)
    shard = _Shard(spec, recipe, data)
    header = {"spec": spec, "code": code, "data": data.digest, "layout": shard.layout, "engine": shard.engine}
    with Part(out, header, 2 if recipe.momentum else 1, shard.parameters) as part:
        if part.note:
            print(part.note, flush=True)
        experts = shard.experts(part)
        store.write(out, header, experts, spec["count"], spec["keep"], recipe.epochs)
        part.remove()


class _Shard:
    def __init__(self, spec: dict[str, Any], recipe: Recipe, data: Dataset):
        self.spec, self.recipe = spec, recipe
        self.images = Images(data.train.images, data.train.labels, data.test.images, data.test.labels, data.normalise)
        self.shape, self.classes, self.device = data.shape, len(data.classes), data.train.images.device
        flat = FlatNetwork(self._network(0))
        self.layout: store.Layout = [(name, list(shape)) for name, shape in flat.layout]
        self.parameters = flat.parameters
        self.engine = devices.describe(self.device)

    def experts(self, part: Part) -> Iterator[store.Expert]:
        """Each expert as soon as it is whole; what `part` holds is not trained again."""
        epochs = self.recipe.epochs + 1
        first, count = self.spec["first"], self.spec["count"]
        progress = Progress("experts", count * self.recipe.epochs, done=len(part) - -(-len(part) // epochs), unit="epochs")
        for row in range(count):
            trainer = Trainer(self._network(first + row), self.recipe, self.images)
            self._finish(first + row, trainer, part, max(0, len(part) - row * epochs), progress)
            records = [part[row * epochs + epoch] for epoch in range(epochs)]
            trainer.restore(torch.from_numpy(records[-1].state))
            yield self._compact(records, trainer.accuracy())

    def _finish(self, expert: int, trainer: Trainer, part: Part, done: int, progress: Progress) -> None:
        """Train the epochs of `expert` that `part` lacks; `done` of its records are there."""
        if done == 0:
            part.append(Record(expert, 0, float("nan"), 0.0, trainer.state().numpy()))
            done = 1
        elif done <= self.recipe.epochs:
            trainer.restore(torch.from_numpy(part[len(part) - 1].state))
        for epoch in range(done, self.recipe.epochs + 1):
            start = time.monotonic()
            loss = trainer.epoch(*self._name(expert), "epoch", epoch)
            part.append(Record(expert, epoch, loss, time.monotonic() - start, trainer.state().numpy()))
            progress.step(f"expert {expert}, loss {loss:.3f}")

    def _compact(self, records: list[Record], accuracy: float) -> store.Expert:
        snapshots = np.stack([record.state[0] for record in records[: self.spec["keep"]]])
        losses = [record.loss for record in records[1:]]
        return store.compact(snapshots, self.layout, accuracy, losses, sum(record.seconds for record in records))

    def _network(self, expert: int) -> torch.nn.Module:
        settings = {**self.spec["network"]}
        channels, size, _ = self.shape
        seed = seeds.derive(*self._name(expert), "init")
        return networks.build(settings.pop("name"), channels, size, self.classes, seed=seed, **settings).to(self.device)

    def _name(self, expert: int) -> tuple[int, str, str, int]:
        return self.spec["study_seed"], "experts", self.spec["dataset"], expert

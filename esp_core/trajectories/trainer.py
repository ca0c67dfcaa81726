"""Training of one expert: SGD on the complete training set, which is on the device as uint8 (MTT, Cazenavette et al., 2022).

An epoch depends only on the weights and momentum before it and on a seed from (study seed, dataset, expert, epoch). So an expert is
the same in whatever shard, order or number of attempts it is trained.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from esp_core.datasets.dataset import Dataset
from esp_core.runtime import seeds
from esp_core.runtime.errors import UserError
from esp_core.runtime.transfer import send
from esp_core.training import engine
from esp_core.training.compile_policy import Work
from esp_core.training.epoch import Images, Mix, accuracy, draw, sizes, steps
from esp_core.training.optimisers import SGD

LONG = 50  # epochs of MTT's experts
State = dict[str, Tensor]  # `weights` and, with momentum, its `momentum` buffer, each (P,) float32 on the CPU


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an expert is trained. The defaults are those of MTT's experts, which ESP's Section 4.2 follows."""

    epochs: int = 50
    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch: int = 256
    augment: str = "color_crop_cutout_flip_scale_rotate"
    precision: str = "auto"


def settings(spec: dict[str, Any]) -> Recipe:
    """The recipe in a spec's `training`. Raises UserError naming an unknown key."""
    if unknown := set(spec) - set(Recipe.__dataclass_fields__):
        raise UserError(f"experts.{min(unknown)}: unknown key; use {', '.join(Recipe.__dataclass_fields__)}")
    return Recipe(**spec)


class Trainer:
    """One network on a device, trained epoch by epoch. The experts of a shard share it, so that it compiles once."""

    def __init__(self, network: nn.Module, recipe: Recipe, data: Dataset, plan: engine.Plan | None = None):
        """Without `plan`, plan for an expert of `LONG` epochs, so that training for more epochs does not change the first ones."""
        self.network, self.recipe = network, recipe
        self.train, self.test = (Images(split.images, split.labels, data) for split in (data.train, data.test))
        work = Work(sizes(len(self.train), recipe.batch, LONG))
        self.plan = plan or engine.plan(network, self.train.sample(), work, recipe.precision)
        self.engine = engine.Engine(network, self.plan, self.train.sample())
        self.weights: list[Tensor] = list(network.parameters())
        self.optimiser = SGD(self.weights, recipe.momentum, recipe.weight_decay)

    def epoch(self, *names: str | int) -> float:
        """Train one epoch, with draws that depend on `names`; return the mean loss over its images."""
        device = self.train.images.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seeds.derive(*names, "dropout"))  # dropout draws from torch's own generator
            return float(sum(loss * count for loss, count in self.steps(seeds.generator(*names)))) / len(self.train)

    def steps(self, generator: torch.Generator) -> Iterator[tuple[Tensor, int]]:
        """Train one epoch with the draws of `generator`; yield the mean loss of each batch (on the device) and its size."""
        self.network.train()

        def loss_of(x: Tensor, y: Tensor, mix: Mix | None) -> Tensor:
            return cross_entropy(self.engine(x), y)

        order = torch.randperm(len(self.train), generator=generator)
        images = self.train.images
        drawn = send(draw(order, self.recipe.batch, self.recipe.augment, images.shape[-1], generator), images.device)
        return steps(self.train, drawn, loss_of, self.optimiser, self.recipe.lr)

    def accuracy(self) -> float:
        """Percent of the test images that are classified correctly."""
        return accuracy(self.network, self.test)

    def state(self) -> State:
        """A copy of the state from which the next epoch starts."""
        parts = {"weights": self.weights}
        if self.recipe.momentum:
            parts["momentum"] = [self.optimiser.state.get(name, torch.zeros_like(w)) for name, w in self._buffers()]
        return {name: torch.cat([t.detach().reshape(-1) for t in tensors]).cpu() for name, tensors in parts.items()}

    @torch.no_grad()
    def restore(self, state: State) -> None:
        """Restore what `state` returned, or the `weights` (P,) of a new network."""
        lengths = [w.numel() for w in self.weights]
        for w, values in zip(self.weights, state["weights"].split(lengths), strict=True):
            w.copy_(values.view_as(w))
        self.optimiser.state.clear()
        if "momentum" in state:
            for (name, w), values in zip(self._buffers(), state["momentum"].split(lengths), strict=True):
                self.optimiser.state[name] = torch.empty_like(w).copy_(values.view_as(w))

    def _buffers(self) -> Iterator[tuple[str, Tensor]]:
        """The name of each weight's momentum buffer in the optimiser's state, and the weight."""
        return ((f"{i}.momentum_buffer", w) for i, w in enumerate(self.weights))

"""Training one expert: SGD on the whole training set, which lies on the device as uint8 (MTT, Cazenavette et al., 2022).

An epoch is a function of the weights before it and of a seed made of (study seed, dataset, expert, epoch): nothing else is
remembered between epochs but the momentum, so an expert is the same in whatever shard, order or number of attempts it is trained.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from esp_core.augment import dsa
from esp_core.datasets.dataset import Dataset
from esp_core.runtime import seeds
from esp_core.runtime.errors import UserError
from esp_core.training.engine import Engine, Plan, Work
from esp_core.trajectories import whitening

EVALUATION_BATCH = 256
LONG = 50  # epochs of MTT's experts


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an expert is trained. The defaults are those of MTT's own experts, which ESP's Section 4.2 follows."""

    epochs: int = 50
    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch: int = 256
    augment: str = "color_crop_cutout_flip_scale_rotate"
    zca: bool = False
    precision: str = "auto"


@dataclass(frozen=True)
class Images:
    """Training and test images on the device, and `prepare`, which turns a batch of them into normalised float32."""

    train: Tensor  # (n, C, H, W)
    train_labels: Tensor  # (n,)
    test: Tensor
    test_labels: Tensor
    prepare: Callable[[Tensor], Tensor]

    def sample(self) -> Tensor:
        """One image as the network sees it, (1, C, H, W)."""
        return self.prepare(self.train[:1])

    def work(self, recipe: Recipe) -> Work:
        """What one expert asks of the engine, by `LONG` epochs whatever their number, so that more epochs begin with the same ones."""
        whole, rest = divmod(len(self.train), recipe.batch)
        sizes = {recipe.batch: whole * recipe.batch, rest: rest}
        return Work({size: LONG * images for size, images in sizes.items() if images})

    def batches(self, recipe: Recipe, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch: each image once, in random order, augmented. All draws come from `generator`, on the CPU."""
        order = torch.randperm(len(self.train), generator=generator)
        for index in order.split(recipe.batch):
            draw = dsa.draw(recipe.augment, len(index), generator, same_operation=True)
            where = index.to(self.train.device)
            yield draw(self.prepare(self.train[where])), self.train_labels[where]


def prepared(data: Dataset, recipe: Recipe) -> Images:
    """The images of `data`: uint8, normalised a batch at a time, or whitened once and for all."""
    if not recipe.zca:
        return Images(data.train.images, data.train.labels, data.test.images, data.test.labels, data.normalise)
    whiten = whitening.fit(data.train.images)
    return Images(whiten(data.train.images), data.train.labels, whiten(data.test.images), data.test.labels, lambda images: images)


class Trainer:
    """One network on a device, trained an epoch at a time. The experts of a shard take turns in it, since it is compiled once."""

    def __init__(self, network: nn.Module, recipe: Recipe, images: Images, plan: Plan):
        self.network, self.recipe, self.images = network, recipe, images
        self.engine = Engine(network, plan, images.sample())
        self.weights = list(network.parameters())
        self.optimiser = torch.optim.SGD(self.weights, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)

    def epoch(self, *names: str | int) -> float:
        """Train one epoch, whose draws are a function of `names`; return the mean loss over its images."""
        device = self.images.train.device
        total = torch.zeros((), device=device)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seeds.derive(*names, "dropout"))  # which draws from torch's own generator
            for loss, count in self.steps(seeds.generator(*names)):
                total += loss * count
        return float(total) / len(self.images.train)

    def steps(self, generator: torch.Generator) -> Iterator[tuple[Tensor, int]]:
        """Train one epoch with the draws of `generator`, a batch at a time; yields its mean loss, on the device, and its size."""
        self.network.train()
        for images, labels in self.images.batches(self.recipe, generator):
            loss = cross_entropy(self.engine(images), labels)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            yield loss.detach(), len(labels)

    @torch.no_grad()
    def accuracy(self) -> float:
        """Percent of the test images that are classified right."""
        self.network.eval()
        right = torch.zeros((), device=self.images.test.device)
        for images, labels in zip(self.images.test.split(EVALUATION_BATCH), self.images.test_labels.split(EVALUATION_BATCH), strict=True):
            right += (self.network(self.images.prepare(images)).argmax(1) == labels).sum()
        return 100 * float(right) / len(self.images.test)

    def state(self) -> Tensor:
        """Weights, and with momentum its buffer, (1 or 2, P) float32, a copy on the CPU."""
        rows = [self.weights]
        if self.recipe.momentum:
            rows.append([self.optimiser.state[w].get("momentum_buffer", torch.zeros_like(w)) for w in self.weights])
        return torch.stack([torch.cat([t.detach().reshape(-1) for t in row]) for row in rows]).cpu()

    @torch.no_grad()
    def restore(self, state: Tensor) -> None:
        """Go on from what `state` gave, or from the weights (1, P) of a new network."""
        sizes = [w.numel() for w in self.weights]
        self.optimiser.state.clear()
        for w, values in zip(self.weights, state[0].split(sizes), strict=True):
            w.copy_(values.view_as(w))
        if len(state) == 2:
            for w, values in zip(self.weights, state[1].split(sizes), strict=True):
                self.optimiser.state[w]["momentum_buffer"] = torch.empty_like(w).copy_(values.view_as(w))


def settings(spec: dict[str, Any]) -> Recipe:
    """The recipe of a spec's `training`. Raises UserError naming an unknown key."""
    if unknown := set(spec) - set(Recipe.__dataclass_fields__):
        raise UserError(f"experts.{min(unknown)}: unknown key; use {', '.join(Recipe.__dataclass_fields__)}")
    return Recipe(**spec)

"""Training a network on a condensed or a whole training set, and its accuracy: the evaluation protocols as data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_core.augment import dsa
from esp_core.datasets import Dataset
from esp_core.runtime.errors import UserError
from esp_core.training.descent import SGD

Forward = Callable[[Tensor], Tensor]  # images (n, C, H, W), normalised -> logits (n, classes)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a network is trained for a table, the same for every method in it; the last epoch counts, never the best.

    `milestones` are fractions of `epochs` at which the rate is multiplied by `gamma`; `cutmix` is the probability that a
    batch is cut and mixed (Yun et al., 2019), as in IDC's protocol. SGD with `momentum` and `weight_decay`.
    """

    name: str
    epochs: int
    lr: float
    momentum: float
    weight_decay: float
    batch: int
    augment: str
    milestones: tuple[float, ...]
    gamma: float
    cutmix: float = 0.0

    def rate(self, epoch: int) -> float:
        """The learning rate in `epoch`, from 0."""
        return self.lr * self.gamma ** sum(epoch >= round(m * self.epochs) for m in self.milestones)


def protocol(settings: dict[str, Any]) -> Protocol:
    """A protocol from a spec. Raises UserError for a key that it does not have, or lacks."""
    try:
        return Protocol(**{**settings, "milestones": tuple(settings.get("milestones", ()))})
    except TypeError as error:
        raise UserError(f"evaluation: {error}") from None


class Images:
    """Training images on the device: float [0, 1] or uint8 (n, C, H, W), normalised batch by batch."""

    def __init__(self, images: Tensor, labels: Tensor, data: Dataset):
        self.images, self.labels, self.data = images.to(data.mean.device), labels.to(data.mean.device), data

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self) -> Tensor:
        """One image as a network sees it, (1, C, H, W)."""
        return self.batch(torch.arange(1))[0]

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images and labels at `index` (b,), on the CPU or the device."""
        index = index.to(self.labels.device)
        return self.data.normalise(self.images[index]), self.labels[index]


def train(
    network: nn.Module, images: Images, settings: Protocol, generator: torch.Generator, forward: Forward | None = None
) -> list[float]:
    """Train `network` in place; returns the mean training loss of every epoch. `forward` runs it, an `Engine` for one; else itself."""
    optimiser = SGD(network.parameters(), settings.momentum, settings.weight_decay)
    network.train()
    curve = []
    for epoch in range(settings.epochs):
        order = torch.randperm(len(images), generator=generator)
        total = torch.zeros((), device=images.labels.device)
        for index in batches(order, settings.batch):
            x, y = augmented(images, index, settings, generator)
            loss = mixed_loss(forward or network, x, y, settings.cutmix, generator)
            optimiser.zero()
            loss.backward()
            optimiser.step(settings.rate(epoch))
            total += loss.detach() * len(x)
        curve.append(float(total) / len(images))
    return curve


def batches(order: Tensor, size: int) -> list[Tensor]:
    """Indices (n,) in batches of `size`; a last batch of one joins the one before it, since batch norm needs two images."""
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def sizes(n: int, settings: Protocol) -> dict[int, int]:
    """How many images a training on `n` walks through in batches of each size."""
    found: dict[int, int] = {}
    for part in batches(torch.arange(n), settings.batch):
        found[len(part)] = found.get(len(part), 0) + settings.epochs * len(part)
    return found


def augmented(images: Images, index: Tensor, settings: Protocol, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The batch at `index` (b,), normalised and augmented, and its labels."""
    x, y = images.batch(index)
    return dsa.draw(settings.augment, len(x), generator, same_operation=True)(x), y


def mixed_loss(network: Forward, x: Tensor, y: Tensor, cutmix: float, generator: torch.Generator) -> Tensor:
    """Cross-entropy, on a cut and mixed batch with probability `cutmix`."""
    x, y, other, share = mix(x, y, cutmix, generator)
    logits = network(x)
    own = F.cross_entropy(logits, y)
    return own if share == 1 else share * own + (1 - share) * F.cross_entropy(logits, other)


def mix(x: Tensor, y: Tensor, cutmix: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, float]:
    """CutMix with probability `cutmix`: a box of a shuffled copy is pasted, its area ~ U(0, 1) = Beta(1, 1).

    Returns images, labels, the labels of what was pasted, and the share of the pixels that are an image's own, 1 where nothing was.
    """
    if cutmix == 0 or float(torch.rand((), generator=generator)) >= cutmix:
        return x, y, y, 1.0
    kept = float(torch.rand((), generator=generator))
    other = torch.randperm(len(x), generator=generator).to(x.device)
    height, width = x.shape[2:]
    centre = torch.rand(2, generator=generator).tolist()
    half = (1 - kept) ** 0.5 / 2
    (top, bottom), (left, right) = (
        (max(0, int(side * (c - half))), min(side, int(side * (c + half)))) for side, c in zip((height, width), centre, strict=True)
    )
    x, source = x.clone(), x
    x[:, :, top:bottom, left:right] = source[other][:, :, top:bottom, left:right]
    return x, y, y[other], 1 - (bottom - top) * (right - left) / (height * width)


@torch.no_grad()
def accuracy(network: nn.Module, images: Images, batch: int = 500, forward: Forward | None = None) -> float:
    """Percent of `images` that `network` names rightly, run by `forward` as in `train`."""
    network.eval()
    right = torch.zeros((), dtype=torch.int64, device=images.labels.device)
    for index in torch.arange(len(images)).split(batch):
        x, y = images.batch(index)
        right += ((forward or network)(x).argmax(1) == y).sum()
    return 100.0 * int(right) / len(images)

"""Training a network on a condensed or a whole training set by an evaluation protocol, which is data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_core.runtime.errors import UserError
from esp_core.training.descent import SGD
from esp_core.training.epoch import Forward, Images, steps

Loss = Callable[[Tensor, Tensor], Tensor]  # logits (n, K) and labels, (n,) or soft (n, K) -> their mean loss


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a network is trained for a table, the same for every method in it; the last epoch counts, never the best.

    `milestones` are fractions of `epochs` at which the rate is multiplied by `gamma`; `cutmix` is the probability that a
    batch is cut and mixed (Yun et al., 2019), as in IDC's protocol. SGD with `momentum` and `weight_decay`. `soft_labels` is the loss on
    the labels of a set that has soft ones, see `soft_loss`, or "hard", which takes the likeliest class. `learned_lr`: a set that a
    learning rate was learned with is trained on at that one.
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
    soft_labels: str = "cross_entropy"
    temperature: float = 1.0
    learned_lr: bool = False

    def rate(self, epoch: int) -> float:
        """The learning rate in `epoch`, from 0."""
        return self.lr * self.gamma ** sum(epoch >= round(m * self.epochs) for m in self.milestones)


def protocol(settings: dict[str, Any]) -> Protocol:
    """A protocol from a spec. Raises UserError for a key that it does not have, or lacks."""
    try:
        return Protocol(**{**settings, "milestones": tuple(settings.get("milestones", ()))})
    except TypeError as error:
        raise UserError(f"evaluation: {error}") from None


def labels_of(settings: Protocol, labels: Tensor, soft: Tensor | None, where: str) -> Tensor:
    """What networks learn from the set that messages call `where`: its `labels` (n,), or its `soft` ones (n, K).

    Raises UserError where soft labels are no probabilities and the loss needs them.
    """
    if soft is None or settings.soft_labels == "hard":
        return labels
    if settings.soft_labels != "mse" and ((soft < 0).any() or (soft.sum(1) - 1).abs().max() > 1e-3):
        raise UserError(
            f"{where}: its labels, from {soft.min():.3g} to {soft.max():.3g}, are no probabilities, which {settings.soft_labels} needs; "
            "set evaluation.soft_labels to mse, or to hard"
        )
    return soft


def soft_loss(settings: Protocol) -> Loss:
    """The mean loss of logits z (n, K) on soft labels y (n, K).

    "cross_entropy": -sum_k y_k log softmax(z)_k. "kl": t^2 KL(softmax(log y / t) || softmax(z / t)) at the temperature t (Hinton et al.,
    2015), the same but for a constant at t = 1. "mse": |z - y|^2 / K, torch's mean over images and classes.
    """
    t = settings.temperature
    losses: dict[str, Loss] = {
        "cross_entropy": F.cross_entropy,
        "kl": lambda z, y: t**2 * F.kl_div(F.log_softmax(z / t, 1), F.softmax(y.log() / t, 1), reduction="batchmean"),
        "mse": F.mse_loss,
    }
    return losses[settings.soft_labels]


def train(
    network: nn.Module, images: Images, settings: Protocol, generator: torch.Generator, forward: Forward | None = None
) -> list[float]:
    """Train `network` in place; returns the mean training loss of every epoch. `forward` runs it, an `Engine` for one; else itself."""
    optimiser = SGD(network.parameters(), settings.momentum, settings.weight_decay)
    loss = soft_loss(settings) if images.labels.is_floating_point() else F.cross_entropy
    network.train()

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return mixed_loss(forward or network, x, y, settings.cutmix, generator, loss)

    curve = []
    for epoch in range(settings.epochs):
        rate = settings.rate(epoch)
        parts = steps(images, settings.batch, settings.augment, loss_of, optimiser, rate, generator)
        curve.append(float(sum(loss * count for loss, count in parts)) / len(images))
    return curve


def mixed_loss(network: Forward, x: Tensor, y: Tensor, cutmix: float, generator: torch.Generator, loss: Loss = F.cross_entropy) -> Tensor:
    """`loss`, on a cut and mixed batch with probability `cutmix`: each of the two labels counts by its share of the pixels."""
    x, y, other, share = mix(x, y, cutmix, generator)
    logits = network(x)
    own = loss(logits, y)
    return own if share == 1 else share * own + (1 - share) * loss(logits, other)


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

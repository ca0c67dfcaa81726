"""Training of a network on a condensed or a complete training set by an evaluation protocol, which is given as data."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_core.runtime.errors import UserError
from esp_core.runtime.transfer import send
from esp_core.training.epoch import Forward, Images, Loss, Mix, draw, mixed_loss, steps
from esp_core.training.optimisers import SGD


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How networks are trained for a table, the same for every method. The last epoch is reported, never the best.

    SGD with `momentum` and `weight_decay`. At the `milestones`, fractions of `epochs`, the learning rate is scaled by `gamma`. `cutmix`
    is the probability that CutMix (Yun et al., 2019) is applied to a batch, as in IDC's protocol. `soft_labels` is the loss on soft labels,
    see `soft_loss`, or "hard", which trains on their argmax. `learned_lr`: if the set has a learned learning rate, train with that.
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

    @classmethod
    def from_spec(cls, settings: dict[str, Any]) -> "Protocol":
        """A protocol from a section of a spec. Raises UserError for an unknown or missing key."""
        try:
            return cls(**{**settings, "milestones": tuple(settings.get("milestones", ()))})
        except TypeError as error:
            raise UserError(f"evaluation: {error}") from None

    def rate(self, epoch: int) -> float:
        """The learning rate in `epoch` (from 0)."""
        return self.lr * self.gamma ** sum(epoch >= round(m * self.epochs) for m in self.milestones)


def labels_of(settings: Protocol, labels: Tensor, soft: Tensor | None, where: str) -> Tensor:
    """The training targets: `labels` (n,) or `soft` (n, K). Messages call the set `where`.

    Raises UserError if soft labels are not probabilities but the loss needs them.
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

    "cross_entropy": -sum_k y_k log softmax(z)_k. "kl": t^2 KL(softmax(log y / t) || softmax(z / t)) at temperature t (Hinton et al.,
    2015), equal to cross_entropy up to a constant at t = 1. "mse": |z - y|^2 / K, torch's mean over images and classes.
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
    """Train `network` in place; return the mean training loss of every epoch. `forward`, such as an `Engine`, runs it if given."""
    optimiser = SGD(network.parameters(), settings.momentum, settings.weight_decay)
    loss = soft_loss(settings) if images.labels.is_floating_point() else F.cross_entropy
    network.train()
    side = images.images.shape[-1]

    def loss_of(x: Tensor, y: Tensor, mix: Mix | None) -> Tensor:
        return mixed_loss(forward or network, x, y, mix, loss)

    curve = []
    for epoch in range(settings.epochs):
        order = torch.randperm(len(images), generator=generator)
        drawn = send(draw(order, settings.batch, settings.augment, side, generator, settings.cutmix), images.images.device)
        parts = steps(images, drawn, loss_of, optimiser, settings.rate(epoch))
        curve.append(float(sum(loss * count for loss, count in parts)) / len(images))
    return curve

"""How a teacher's network learns between outer steps: plain SGD on its flat parameters, every draw from a given generator."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from esp_core.networks.flat import FlatNetwork
from esp_core.training.epoch import Drawn, Mix, draw
from esp_core.training.loop import mixed_loss

Fetch = Callable[[Tensor], tuple[Tensor, Tensor]]  # indices (b,) on the device -> normalised images (b, C, H, W), labels (b,)

ACCURACY_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Rule:
    """SGD on cross-entropy, as torch.optim.SGD takes its numbers; `cutmix` is the probability of a cut and mixed batch."""

    lr: float
    batch: int
    momentum: float = 0.0
    weight_decay: float = 0.0
    cutmix: float = 0.0


class Learner:
    """A network that learns: `theta` and `velocity`, (P,) each, are all that a resumed job needs to go on bit by bit."""

    theta: Tensor
    velocity: Tensor

    def __init__(self, network: FlatNetwork, rule: Rule):
        self.network, self.rule = network, rule

    def begin(self, theta: Tensor) -> None:
        """Start over at `theta` (P,)."""
        self.theta, self.velocity = theta, torch.zeros_like(theta)

    def draw(self, order: Tensor, augment: str, side: int, generator: torch.Generator) -> list[Drawn]:
        """The batches of an epoch over images `order` (n,) of `side` pixels under `augment`, on the CPU."""
        return draw(order, self.rule.batch, augment, side, generator, self.rule.cutmix)

    def epoch(self, batches: Iterable[Drawn], fetch: Fetch) -> None:
        """Train on what `fetch` gives for each of `batches`, which lie on the device."""
        for drawn in batches:
            images, labels = fetch(drawn.chosen)
            self._step(drawn.augment(images), labels, drawn.mix)

    def _step(self, images: Tensor, labels: Tensor, mix: Mix | None) -> None:
        theta = self.theta.detach().requires_grad_()
        loss = mixed_loss(lambda x: self.network(theta, x)[1], images, labels, mix)
        gradient = torch.autograd.grad(loss, theta)[0] + self.rule.weight_decay * theta.detach()
        self.velocity = self.rule.momentum * self.velocity + gradient
        self.theta = theta.detach() - self.rule.lr * self.velocity

    @torch.no_grad()
    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """The fraction of normalised `images` (n, C, H, W) that the network names rightly."""
        parts = zip(images.split(ACCURACY_BATCH), labels.to(images.device).split(ACCURACY_BATCH), strict=True)
        right = torch.stack([(self.network(self.theta, x)[1].argmax(1) == y).sum() for x, y in parts]).sum()
        return int(right) / len(labels)

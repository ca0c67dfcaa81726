"""Training of a teacher's network between outer steps: SGD on its flat parameters, all draws from a given generator."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from esp_core.networks.flat import FlatNetwork
from esp_core.teachers import Context
from esp_core.training.compile_policy import TRAINING
from esp_core.training.epoch import Drawn, Mix, draw, mixed_loss
from esp_core.training.traced import Traced

Fetch = Callable[[Tensor], tuple[Tensor, Tensor]]  # indices (b,) on the device -> normalised images (b, C, H, W), labels (b,)

ACCURACY_BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Settings of SGD on cross-entropy, as for torch.optim.SGD; `cutmix` is the probability that CutMix is applied to a batch."""

    lr: float
    batch: int
    momentum: float = 0.0
    weight_decay: float = 0.0
    cutmix: float = 0.0


class Learner:
    """A network in training. `theta` and `velocity`, (P,) each, are all that a resumed job needs to continue bit by bit.

    With `traced`, training steps and accuracies run as compiled code, compiled once for every number of images that occurs.
    """

    theta: Tensor
    velocity: Tensor

    def __init__(self, network: FlatNetwork, rule: Rule, traced: Traced | None = None):
        self.network, self.rule, self.traced = network, rule, traced

    @property
    def compiled(self) -> list[str]:
        """The names of its compiled functions."""
        return self.traced.names if self.traced is not None else []

    def begin(self, theta: Tensor) -> None:
        """Restart from `theta` (P,)."""
        self.theta, self.velocity = theta, torch.zeros_like(theta)

    def draw(self, order: Tensor, augment: str, side: int, generator: torch.Generator) -> list[Drawn]:
        """The batches of an epoch over the images `order` (n,), `side` pixels wide, under `augment`; on the CPU."""
        return draw(order, self.rule.batch, augment, side, generator, self.rule.cutmix)

    def epoch(self, batches: Iterable[Drawn], fetch: Fetch) -> None:
        """Train on the images and labels that `fetch` returns for each of `batches`, which are on the device."""
        for drawn in batches:
            images, labels = fetch(drawn.chosen)
            self._step(drawn.augment(images), labels, drawn.mix)

    def _step(self, images: Tensor, labels: Tensor, mix: Mix | None) -> None:
        gradient = self._gradient(images, labels, mix) + self.rule.weight_decay * self.theta
        self.velocity = self.rule.momentum * self.velocity + gradient
        self.theta = self.theta - self.rule.lr * self.velocity

    def _gradient(self, images: Tensor, labels: Tensor, mix: Mix | None) -> Tensor:
        """(P,), the gradient of the mean loss."""
        if self.traced is not None:
            mixed, others = (images, labels) if mix is None else (mix(images), labels.index_select(0, mix.other))
            share = torch.full((), 1.0 if mix is None else mix.share, device=images.device)
            name = f"learning from {len(images)} images"
            found: Tensor | None = self.traced(name, self._pure, len(images), self.theta, mixed, labels, others, share)
            if found is not None:
                return found
        theta = self.theta.detach().requires_grad_()
        loss = mixed_loss(lambda x: self.network(theta, x)[1], images, labels, mix)
        return torch.autograd.grad(loss, theta)[0]

    @torch.enable_grad()
    def _pure(self, theta: Tensor, images: Tensor, labels: Tensor, others: Tensor, share: Tensor) -> Tensor:
        theta = theta.detach().requires_grad_()
        logits = self._logits(theta, images)
        loss = share * F.cross_entropy(logits, labels) + (1 - share) * F.cross_entropy(logits, others)
        return torch.autograd.grad(loss, theta)[0]

    def _logits(self, theta: Tensor, images: Tensor) -> Tensor:
        return self.network(theta, images.contiguous(memory_format=torch.channels_last))[1]

    @torch.no_grad()
    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """The fraction of normalised `images` (n, C, H, W) that the network classifies correctly."""
        parts = zip(images.split(ACCURACY_BATCH), labels.to(images.device).split(ACCURACY_BATCH), strict=True)
        right = torch.stack([(self._tested(x).argmax(1) == y).sum() for x, y in parts]).sum()
        return int(right) / len(labels)

    def _tested(self, images: Tensor) -> Tensor:
        found: Tensor | None = None
        if self.traced is not None:
            found = self.traced(f"logits of {len(images)} images", self._logits, len(images), self.theta, images)
        return self.network(self.theta, images)[1] if found is None else found


def learner(context: Context, rule: Rule, trained: int, tested: int = 0) -> Learner:
    """A `Learner`, compiled if that pays: an outer step trains on at most `trained` images, repeats counted, and tests on `tested`."""
    return Learner(context.network, rule, Traced() if context.compiles(TRAINING * trained + tested) else None)

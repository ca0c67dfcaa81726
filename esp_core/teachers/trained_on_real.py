"""`trained_on_real`: random networks trained on real images between the outer steps (IDC, Kim et al., 2022)."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from esp_core.augment import dsa
from esp_core.augment.dsa import Chain, Draw
from esp_core.objectives import State, Statistics
from esp_core.runtime import seeds
from esp_core.runtime.transfer import send
from esp_core.teachers import Context, Teacher
from esp_core.teachers.learning import Rule, learner
from esp_core.training.epoch import Images


class TrainedOnReal(Teacher):
    """A new network every `inner_steps` outer steps; between outer steps it is trained for one epoch on `images` random real images.

    `rule` sets the training. The augmentation is IDC's (see `strategy`), without cutout if CutMix is used, as in IDC's code.
    """

    def __init__(self, context: Context, rule: Rule, inner_steps: int, images: int):
        self.context, self.learner = context, learner(context, rule, images)
        self.inner_steps, self.count, self._step = inner_steps, images, 0
        data = context.real.data
        self.real = Images(data.train.images, data.train.labels, data)
        listed = dsa.parse(context.augment.replace("+", "_"))
        self.strategy = strategy([o for o in listed if not (o == "cutout" and rule.cutmix)])

    @property
    def compiled(self) -> Sequence[str]:
        return self.learner.compiled

    def state(self, step: int, draw: Draw | Chain) -> State:
        self._step = step
        if step % self.inner_steps == 0:
            fresh = self.context.fresh(seeds.derive(*self.context.seed, "network", step // self.inner_steps))
            self.learner.begin(fresh.to(self.context.device))
        return State(self.context.network, self.learner.theta, self.context.classes, draw, loss="ce")

    def advance(self, synthetic: Statistics) -> None:
        if (self._step + 1) % self.inner_steps == 0:
            return  # the next step starts a new network
        generator = seeds.generator(*self.context.seed, "inner", self._step)
        order = torch.randperm(len(self.real), generator=generator)[: self.count]
        images = self.real.images
        self.learner.epoch(send(self.learner.draw(order, self.strategy, images.shape[-1], generator), images.device), self.real.batch)

    def checkpoint(self) -> dict[str, Tensor]:
        return {"theta": self.learner.theta, "velocity": self.learner.velocity}

    def resume(self, saved: dict[str, Tensor]) -> None:
        self.learner.theta, self.learner.velocity = (saved[name].to(self.context.device) for name in ("theta", "velocity"))


def strategy(operations: list[str]) -> str:
    """IDC's augmentation from `operations`: always flip, colour and cutout, and one of the others per batch.

    The parameters are drawn per image (IDC's code, DiffAug).
    """
    others = [o for o in operations if o not in ("flip", "color", "cutout")]
    rounds = [*(o for o in ("flip", "color") if o in operations), "_".join(others), *(o for o in ("cutout",) if o in operations)]
    return "+".join(filter(None, rounds))


def build(
    context: Context,
    inner_steps: Annotated[int, ">= 1"] = 100,
    images: Annotated[int, ">= 1"] = 2048,
    lr: Annotated[float, "> 0"] = 0.01,
    momentum: Annotated[float, ">= 0, < 1"] = 0.9,
    weight_decay: Annotated[float, ">= 0"] = 0.0005,
    batch: Annotated[int, ">= 1"] = 64,
    cutmix: Annotated[float, ">= 0, <= 1"] = 0.5,
) -> TrainedOnReal:
    """See `TrainedOnReal`; the numbers are those of IDC's code for CIFAR.

    inner_steps: outer steps that a network serves; inner_loop there
    images: random real images that it learns from between two outer steps; n_data there, whole batches until 2000 images have passed for
        CIFAR, 500 for SVHN
    lr: learning rate of the network, per step
    momentum: momentum of the network's training
    weight_decay: weight decay of the network's training, per step
    batch: real images that the network learns from at a time; batch_real there
    cutmix: probability that a batch is cut and mixed, above zero cutout is left out of the network's augmentation; mix_p there
    """
    rule = Rule(lr=lr, momentum=momentum, weight_decay=weight_decay, batch=batch, cutmix=cutmix)
    return TrainedOnReal(context, rule, inner_steps, images)

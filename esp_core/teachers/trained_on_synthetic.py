"""`trained_on_synthetic`: random networks that learn from the synthetic images between the outer steps (DC, DSA, CAFE)."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from esp_core.augment import dsa
from esp_core.augment.dsa import Chain, Draw
from esp_core.objectives import State, Statistics
from esp_core.runtime import seeds
from esp_core.teachers import Context, Teacher
from esp_core.teachers.learning import Learner, Rule


class TrainedOnSynthetic(Teacher):
    """A new network every `outer_loop` outer steps; between two of them it learns for `inner_loop` epochs (DC, Algorithm 1).

    It learns by SGD with rate `lr` from batches of `batch` images under the method's augmentation, one operation a batch and
    numbers for each image.

    `loops`: "fixed", or "dynamic" (CAFE's dynamic bi-level optimisation), where the two numbers are upper bounds, which CAFE's
    code lacks. After every outer step and every epoch the accuracy on `query` real images a class is taken, and of each loop the
    last `window` are looked at: the network is left once they vary by less than `outer_change`, its training once they vary by
    more than `inner_change`, both as fractions of one.
    """

    def __init__(
        self,
        context: Context,
        rule: Rule,
        outer_loop: int,
        inner_loop: int,
        loops: str,
        outer_change: float,
        inner_change: float,
        window: int,
        query: int,
    ):
        self.context, self.learner = context, Learner(context.network, rule)
        self.outer_loop, self.inner_loop, self.dynamic = outer_loop, inner_loop, loops == "dynamic"
        self.outer_change, self.inner_change, self.window, self.query = outer_change, inner_change, window, query
        self._network, self._position, self._step = 0, 0, 0
        self._accuracies: list[float] = []

    def state(self, step: int, draw: Draw | Chain) -> State:
        self._step = step
        if self._position == 0:
            fresh = self.context.fresh(seeds.derive(*self.context.seed, "network", self._network))
            self.learner.begin(fresh.to(self.context.device))
        return State(self.context.network, self.learner.theta, self.context.classes, draw, loss="ce")

    def advance(self, synthetic: Statistics) -> None:
        self._position += 1
        generator = seeds.generator(*self.context.seed, "inner", self._step)
        if self._leaves(generator):
            self._network, self._position, self._accuracies = self._network + 1, 0, []
        else:
            self._learn(generator)

    def _leaves(self, generator: torch.Generator) -> bool:
        if self._position >= self.outer_loop:
            return True
        if not self.dynamic:
            return False
        self._accuracies = [*self._accuracies, self._accuracy(generator)][-self.window :]
        return len(self._accuracies) == self.window and _range(self._accuracies) < self.outer_change

    def _learn(self, generator: torch.Generator) -> None:
        units = torch.arange(self.context.synthetic.units)
        with torch.no_grad():
            images = self.context.synthetic.decode(units)
        labels = self.context.synthetic.labels(units).to(images.device)
        accuracies: list[float] = []
        for _ in range(self.inner_loop):
            order = torch.randperm(len(labels), generator=generator)
            self.learner.epoch(order, lambda i: (images[i.to(images.device)], labels[i.to(images.device)]), self._augment, generator)
            if self.dynamic:
                accuracies = [*accuracies, self._accuracy(generator)][-self.window :]
                if len(accuracies) == self.window and _range(accuracies) > self.inner_change:
                    return

    def _augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return dsa.draw(self.context.augment, len(images), generator, same_operation=True)(images)

    def _accuracy(self, generator: torch.Generator) -> float:
        return self.learner.accuracy(*self.context.real.batch(self.query, generator))

    def checkpoint(self) -> dict[str, Tensor]:
        place = {"network": torch.tensor(self._network), "position": torch.tensor(self._position)}
        if self._position == 0:
            return place
        return place | {"theta": self.learner.theta, "accuracies": torch.tensor(self._accuracies, dtype=torch.float64)}

    def resume(self, saved: dict[str, Tensor]) -> None:
        self._network, self._position = int(saved["network"]), int(saved["position"])
        if self._position:
            self.learner.begin(saved["theta"].to(self.context.device))
            self._accuracies = saved["accuracies"].tolist()


def _range(values: list[float]) -> float:
    return max(values) - min(values)


def build(
    context: Context,
    outer_loop: Annotated[int, ">= 1"] = 1,
    inner_loop: Annotated[int, ">= 0"] = 1,
    lr: Annotated[float, "> 0"] = 0.01,
    batch: Annotated[int, ">= 1"] = 256,
    loops: Literal["fixed", "dynamic"] = "fixed",
    outer_change: Annotated[float, ">= 0"] = 0.04,
    inner_change: Annotated[float, ">= 0"] = 0.03,
    window: Annotated[int, ">= 2"] = 10,
    query: Annotated[int, ">= 1"] = 128,
) -> TrainedOnSynthetic:
    """See `TrainedOnSynthetic`; the defaults are DC's and DSA's code at IPC 1, those from `outer_change` on CAFE's.

    outer_loop: outer steps that a network serves, at most so many where the loops are dynamic; DC's code, get_loops
    inner_loop: epochs that it learns between two outer steps, at most so many where the loops are dynamic; DC's code, get_loops
    lr: learning rate of the network, per step; DC's, DSA's and CAFE's code, lr_net
    batch: synthetic images that the network learns from at a time; DC's, DSA's and CAFE's code, batch_train
    loops: whether the loops have their full length or end by the accuracy of the network; fixed, DC and DSA; dynamic, CAFE
    outer_change: dynamic loops leave a network once its last accuracies differ by less, as a fraction of the images; lambda_1
    inner_change: dynamic loops stop the training once its last accuracies differ by more, as a fraction of the images; lambda_2
    window: the last accuracies that dynamic loops look at
    query: real images of each class on which dynamic loops take an accuracy
    """
    rule = Rule(lr=lr, batch=batch)
    return TrainedOnSynthetic(context, rule, outer_loop, inner_loop, loops, outer_change, inner_change, window, query)

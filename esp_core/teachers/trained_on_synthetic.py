"""`trained_on_synthetic`: random networks trained on the synthetic images between the outer steps (DC, DSA, CAFE)."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from esp_core.augment.dsa import Chain, Draw
from esp_core.objectives import State, Statistics
from esp_core.runtime import seeds
from esp_core.runtime.transfer import send
from esp_core.teachers import Context, Teacher
from esp_core.teachers.learning import Rule, learner
from esp_core.training.epoch import Drawn

_Query = tuple[Tensor, Tensor]  # indices and labels (n,) of real images


class _Plan(NamedTuple):
    """One round of training: the synthetic units, the labels of their images, a query, and for each epoch its batches and a query."""

    units: Tensor
    labels: Tensor
    query: _Query | None
    epochs: list[tuple[list[Drawn], _Query | None]]


class TrainedOnSynthetic(Teacher):
    """A new network every `outer_loop` outer steps; between outer steps it is trained for `inner_loop` epochs (DC, Algorithm 1).

    Training is SGD with `rule`'s learning rate and batch size, under the method's augmentation: one operation per batch, parameters
    per image.

    `loops`: "fixed", or "dynamic" (CAFE's dynamic bi-level optimisation), where `outer_loop` and `inner_loop` are upper bounds; CAFE's
    code has none. The accuracy on `query` real images a class is measured after every outer step and every epoch. Each loop uses the range
    of its last `window` accuracies, as fractions of one: a new network starts once the range over outer steps is below `outer_change`, and
    training stops once the range over epochs is above `inner_change`.
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
        self.context = context
        epochs, tested = (inner_loop, context.classes * query) if outer_loop > 1 else (0, 0)
        self.learner = learner(context, rule, epochs * context.synthetic.images, (epochs + 1) * tested * (loops == "dynamic"))
        self.outer_loop, self.inner_loop, self.dynamic = outer_loop, inner_loop, loops == "dynamic"
        self.outer_change, self.inner_change, self.window, self.query = outer_change, inner_change, window, query
        self._network, self._position, self._step = 0, 0, 0
        self._accuracies: list[float] = []

    @property
    def compiled(self) -> Sequence[str]:
        return self.learner.compiled

    def state(self, step: int, draw: Draw | Chain) -> State:
        self._step = step
        if self._position == 0:
            fresh = self.context.fresh(seeds.derive(*self.context.seed, "network", self._network))
            self.learner.begin(fresh.to(self.context.device))
        return State(self.context.network, self.learner.theta, self.context.classes, draw, loss="ce")

    def advance(self, synthetic: Statistics) -> None:
        self._position += 1
        if self._position < self.outer_loop:
            plan = self._plan(seeds.generator(*self.context.seed, "inner", self._step))
            if plan.query is None or not self._leaves(plan.query):
                self._learn(plan)
                return
        self._network, self._position, self._accuracies = self._network + 1, 0, []

    def _plan(self, generator: torch.Generator) -> _Plan:
        """Draw everything for one round of training, in the order of use, and send it to the device at once."""
        synthetic, data = self.context.synthetic, self.context.real.data
        units = torch.arange(synthetic.units)
        query = self._query(generator)
        epochs = []
        for _ in range(self.inner_loop):
            order = torch.randperm(synthetic.images, generator=generator)
            epochs.append((self.learner.draw(order, self.context.augment, data.shape[-1], generator), self._query(generator)))
        return send(_Plan(units, synthetic.labels(units), query, epochs), data.train.images.device)

    def _query(self, generator: torch.Generator) -> _Query | None:
        return self.context.real.choose(self.query, generator) if self.dynamic else None

    def _leaves(self, query: _Query) -> bool:
        self._accuracies = [*self._accuracies, self._accuracy(query)][-self.window :]
        return len(self._accuracies) == self.window and _range(self._accuracies) < self.outer_change

    def _learn(self, plan: _Plan) -> None:
        with torch.no_grad():
            images = self.context.synthetic.decode(plan.units)

        def fetch(index: Tensor) -> tuple[Tensor, Tensor]:
            return images.index_select(0, index), plan.labels.index_select(0, index)

        accuracies: list[float] = []
        for batches, query in plan.epochs:
            self.learner.epoch(batches, fetch)
            if query is not None:
                accuracies = [*accuracies, self._accuracy(query)][-self.window :]
                if len(accuracies) == self.window and _range(accuracies) > self.inner_change:
                    return

    def _accuracy(self, query: _Query) -> float:
        index, labels = query
        return self.learner.accuracy(self.context.real.images(index), labels)

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
    """See `TrainedOnSynthetic`; the defaults are from DC's and DSA's code at IPC 1, those from `outer_change` on are from CAFE's.

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

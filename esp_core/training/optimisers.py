"""SGD and Adam through torch's functional forms, with a learning rate per tensor and step.

The arithmetic is torch's. The optimiser classes of torch are not used because making one imports torch's compiler: two seconds in
every process, as long as many jobs of a small study.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # torch's defaults


class Descent(ABC):
    """Updates tensors along their gradients. `state` holds, by name, what a later process needs to continue bit by bit."""

    def __init__(self, tensors: Iterable[Tensor]):
        self.tensors = list(tensors)
        self.state: dict[str, Tensor] = {}

    def zero(self) -> None:
        """Clear the gradients."""
        for tensor in self.tensors:
            tensor.grad = None

    @torch.no_grad()
    def step(self, rates: float | Sequence[float]) -> None:
        """One step at `rates`, one number for all tensors or one for each. Tensors without a gradient do not change."""
        each = [float(rates)] * len(self.tensors) if isinstance(rates, int | float) else list(rates)
        for rate in dict.fromkeys(each):
            chosen = [i for i, own in enumerate(each) if own == rate and self.tensors[i].grad is not None]
            if chosen:
                self._step(chosen, [self.tensors[i] for i in chosen], [_gradient(self.tensors[i]) for i in chosen], rate)

    @abstractmethod
    def _step(self, numbers: list[int], tensors: list[Tensor], gradients: list[Tensor], rate: float) -> None:
        """Update `tensors`, whose indices in `self.tensors` are `numbers`."""


class SGD(Descent):
    """Stochastic gradient descent with momentum and weight decay, like torch.optim.SGD."""

    def __init__(self, tensors: Iterable[Tensor], momentum: float = 0.0, weight_decay: float = 0.0):
        super().__init__(tensors)
        self.momentum, self.weight_decay = momentum, weight_decay

    def _step(self, numbers: list[int], tensors: list[Tensor], gradients: list[Tensor], rate: float) -> None:
        names = [f"{i}.momentum_buffer" for i in numbers]
        buffers = [self.state.get(name) for name in names]
        sgd(
            tensors,
            gradients,
            buffers,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        if self.momentum:
            self.state |= {name: buffer for name, buffer in zip(names, buffers, strict=True) if buffer is not None}


class Adam(Descent):
    """Adam (Kingma and Ba, 2015) with torch.optim.Adam's defaults."""

    def _step(self, numbers: list[int], tensors: list[Tensor], gradients: list[Tensor], rate: float) -> None:
        for i, tensor in zip(numbers, tensors, strict=True):
            if f"{i}.step" not in self.state:
                moments = {f"{i}.{name}": torch.zeros_like(tensor) for name in ("exp_avg", "exp_avg_sq")}
                self.state |= {f"{i}.step": torch.zeros(()), **moments}
        adam(
            tensors,
            gradients,
            exp_avgs=[self.state[f"{i}.exp_avg"] for i in numbers],
            exp_avg_sqs=[self.state[f"{i}.exp_avg_sq"] for i in numbers],
            max_exp_avg_sqs=[],
            state_steps=[self.state[f"{i}.step"] for i in numbers],
            amsgrad=False,
            beta1=BETA1,
            beta2=BETA2,
            lr=rate,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )


def _gradient(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad

"""The outer optimiser: Adam on codes and decoders (Section 4.2), SGD on pixels (DM, DSA), with a learning-rate schedule."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from esp_core.parametrisations import Parametrisation
from esp_core.runtime.errors import UserError
from esp_core.study import kinds
from esp_core.training.optimisers import SGD, Adam, Descent


class OuterOptimiser:
    """Optimises `synthetic.tensors`, and `more` tensors by name, with the recipe's `optimiser`.

    `kind`: adam or sgd (with `momentum`). `decay`: constant; linear, to zero at the last iteration; or steps, which multiplies the rate by
    `gamma` at each of the `milestones`, given as fractions of the iterations. `lr_<group>`: the learning rate of a group of tensors, which
    is the first word of their names: lr_codes, lr_decoders, lr_pixels, lr_step_size.
    """

    def __init__(self, synthetic: Parametrisation, recipe: dict[str, Any], more: Mapping[str, Tensor] | None = None):
        settings = recipe["optimiser"]
        self.synthetic, self.iterations = synthetic, recipe["iterations"]
        self.kind, self.decay = settings.get("kind", "adam"), settings.get("decay", "constant")
        kinds.check("optimiser", self.kind, settings, "optimiser.")
        self.milestones, self.gamma = settings.get("milestones", ()), settings.get("gamma")
        if self.decay == "steps" and (not self.milestones or self.gamma is None):
            raise UserError("optimiser.decay: steps needs optimiser.milestones and optimiser.gamma")
        self.rates: list[float] = []
        tensors = {**synthetic.tensors, **(more or {})}
        for name, tensor in tensors.items():
            tensor.requires_grad_()
            self.rates.append(self._rate(settings, name))
        self.optimiser = self._optimiser(settings, list(tensors.values()))

    def _optimiser(self, settings: dict[str, Any], tensors: list[Tensor]) -> Descent:
        return Adam(tensors) if self.kind == "adam" else SGD(tensors, settings.get("momentum", 0.0))

    def _rate(self, settings: dict[str, Any], tensor: str) -> float:
        key = "lr_" + {"decoder": "decoders"}.get(tensor.partition(".")[0], tensor.partition(".")[0])
        if self.iterations and key not in settings:
            raise UserError(f"optimiser.{key}: missing; this method learns {tensor}")
        return float(settings.get(key, 0.0))

    def zero(self) -> None:
        """Clear the gradients."""
        self.optimiser.zero()

    def step(self, index: int) -> None:
        """Outer step `index` (from 0) at the scheduled learning rate; then restrict the tensors to values that may be stored."""
        self.optimiser.step([rate * self._factor(index) for rate in self.rates])
        self.synthetic.restrict(index + 1)

    def _factor(self, index: int) -> float:
        if self.decay == "linear":
            return 1 - index / self.iterations
        if self.decay == "steps":
            return float(self.gamma ** sum(index >= m * self.iterations for m in self.milestones))
        return 1.0

    def checkpoint(self) -> dict[str, Tensor]:
        """The optimiser's state, by tensor."""
        return self.optimiser.state

    def resume(self, saved: dict[str, Tensor]) -> None:
        """Restore what `checkpoint` returned."""
        devices = {str(i): t.device for i, t in enumerate(self.optimiser.tensors)}
        self.optimiser.state = {
            name: value if name.endswith(".step") else value.to(devices[name.partition(".")[0]]) for name, value in saved.items()
        }

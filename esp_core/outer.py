"""The outer optimiser: Adam on codes and decoders (Section 4.2), SGD on pixels (DM, DSA), with a stated decay."""

from typing import Any

import torch
from torch import Tensor

from esp_core.errors import UserError
from esp_core.parametrisations import Parametrisation

DECAYS = ("constant", "linear")


class Outer:
    """Steps `synthetic.tensors` with the recipe's `optimiser`.

    `kind`: adam or sgd (`momentum`); `decay`: constant, or linear to zero at the last iteration; `lr_<group>`: one rate
    for every group of tensors, named by the first word of the tensor's name: lr_codes, lr_decoders, lr_pixels.
    """

    def __init__(self, synthetic: Parametrisation, recipe: dict[str, Any]):
        settings = recipe["optimiser"]
        self.synthetic, self.iterations = synthetic, recipe["iterations"]
        self.kind, self.decay = settings.get("kind", "adam"), settings.get("decay", "constant")
        if self.decay not in DECAYS:
            raise UserError(f"optimiser.decay: {self.decay!r}; use one of {', '.join(DECAYS)}")
        self.groups: list[dict[str, Any]] = []
        for name, tensor in synthetic.tensors.items():
            tensor.requires_grad_()
            self.groups.append({"params": [tensor], "lr": self._rate(settings, name)})
        self.rates: list[float] = [group["lr"] for group in self.groups]
        self.optimiser = self._optimiser(settings)

    def _optimiser(self, settings: dict[str, Any]) -> torch.optim.Optimizer:
        if self.kind == "adam":
            return torch.optim.Adam(self.groups)
        if self.kind == "sgd":
            return torch.optim.SGD(self.groups, momentum=settings.get("momentum", 0.0))
        raise UserError(f"optimiser.kind: {self.kind!r}; use adam or sgd")

    def _rate(self, settings: dict[str, Any], tensor: str) -> float:
        key = "lr_" + {"decoder": "decoders"}.get(tensor.partition(".")[0], tensor.partition(".")[0])
        if self.iterations and key not in settings:
            raise UserError(f"optimiser.{key}: missing; this parametrisation stores {tensor}")
        return float(settings.get(key, 0.0))

    def zero(self) -> None:
        """Forget the gradients."""
        self.optimiser.zero_grad(set_to_none=True)

    def step(self, index: int) -> None:
        """Outer step `index` (from 0), at the rate that the decay gives it, then bring the tensors back to what may be stored."""
        factor = 1 - index / self.iterations if self.decay == "linear" else 1.0
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.optimiser.step()
        self.synthetic.restrict()

    def checkpoint(self) -> dict[str, Tensor]:
        """The optimiser's moments, by tensor."""
        state = self.optimiser.state_dict()["state"]
        return {f"{i}.{key}": value for i, entry in state.items() for key, value in entry.items() if isinstance(value, Tensor)}

    def resume(self, saved: dict[str, Tensor]) -> None:
        """Take up what `checkpoint` gave."""
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in saved.items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict({"state": state, "param_groups": self.optimiser.state_dict()["param_groups"]})

"""A network as a function of one flat parameter vector, the form that trajectories, subspaces and gradients use."""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from esp_core.runtime.devices import has_fast_bfloat16
from esp_core.runtime.errors import UserError

PRECISIONS = ("auto", "float32", "bfloat16")


class _Heads(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.features(images)  # type: ignore[operator]
        return features, self.network.classifier(features)  # type: ignore[operator]


class _Intermediates(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.network.intermediates(images)  # type: ignore[operator]


class FlatNetwork:
    """`network` as a function f(theta, images); theta (P,) are its parameters in their own order, flattened and concatenated.

    The network must not have changing buffers (no batch norm), since a functional call must not have side effects. With `precision`
    bfloat16, products run in bfloat16 under torch's autocast; theta and the outputs have theta's dtype. "auto" is bfloat16 on a CPU with
    instructions for it, else float32: a GPU multiplies float32 fast, and its eager bfloat16 was slower (docs/benchmarks.md).
    Raises UserError for another precision.
    """

    def __init__(self, network: nn.Module, precision: str = "float32"):
        if precision not in PRECISIONS:
            raise UserError(f"precision: {precision!r}; use {', '.join(PRECISIONS)}")
        if precision == "auto":
            device = next(network.parameters()).device
            precision = "bfloat16" if device.type == "cpu" and has_fast_bfloat16(device) else "float32"
        self.precision = precision
        self._heads = _Heads(network)
        self.layout = tuple((name, tuple(p.shape)) for name, p in network.named_parameters())
        self._sizes = [math.prod(shape) for _, shape in self.layout]
        self.parameters = sum(self._sizes)

    def split(self, theta: Tensor) -> list[Tensor]:
        """theta (P,) -> one view per parameter, in its own shape."""
        return [part.view(shape) for part, (_, shape) in zip(theta.split(self._sizes), self.layout, strict=True)]

    def __call__(self, theta: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """(P,), (n, C, H, W) -> features (n, F) and logits (n, classes)."""
        with self._arithmetic(images):
            features, logits = functional_call(self._heads, self._named(theta), (images,))
        return features.to(theta.dtype), logits.to(theta.dtype)

    def intermediates(self, theta: Tensor, images: Tensor) -> list[Tensor]:
        """(P,), (n, C, H, W) -> intermediate outputs, (n, F_k) each; the last is the input of the classifier.

        Raises UserError for a network without a method `intermediates(images)`.
        """
        network = self._heads.network
        if not hasattr(network, "intermediates"):
            raise UserError(
                f"distill_network: {type(network).__name__} has no intermediates(images), which objectives.features compares; "
                "use convnet3, or give the network that method"
            )
        with self._arithmetic(images):
            stages = functional_call(_Intermediates(network), self._named(theta), (images,))
        return [stage.flatten(1).to(theta.dtype) for stage in stages]

    def _arithmetic(self, images: Tensor) -> torch.autocast:
        return torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def _named(self, theta: Tensor) -> dict[str, Tensor]:
        return {f"network.{name}": part for (name, _), part in zip(self.layout, self.split(theta), strict=True)}


def flatten(network: nn.Module) -> Tensor:
    """A copy of the network's parameters as one vector (P,)."""
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])

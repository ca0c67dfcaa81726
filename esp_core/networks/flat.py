"""A network as a function of one flat parameter vector, in which trajectories, subspaces and gradients are written."""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from esp_core.errors import UserError


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
    """`network` seen as f(theta, images), theta (P,) being its parameters in their own order, flattened and joined.

    Needs a network without buffers that change (no batch norm): a functional call must leave nothing behind.
    """

    def __init__(self, network: nn.Module):
        self._heads = _Heads(network)
        self.layout = tuple((name, tuple(p.shape)) for name, p in network.named_parameters())
        self._sizes = [math.prod(shape) for _, shape in self.layout]
        self.parameters = sum(self._sizes)

    def split(self, theta: Tensor) -> list[Tensor]:
        """theta (P,) -> one view per parameter, in its shape."""
        return [part.view(shape) for part, (_, shape) in zip(theta.split(self._sizes), self.layout, strict=True)]

    def __call__(self, theta: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """(P,), (n, C, H, W) -> features (n, F) and logits (n, classes)."""
        return functional_call(self._heads, self._named(theta), (images,))

    def intermediates(self, theta: Tensor, images: Tensor) -> list[Tensor]:
        """(P,), (n, C, H, W) -> what the network computes on its way, (n, F_k) each, the features that the classifier sees last.

        Raises UserError for a network without a method `intermediates(images)`.
        """
        network = self._heads.network
        if not hasattr(network, "intermediates"):
            raise UserError(
                f"distill_network: {type(network).__name__} has no intermediates(images), which objectives.features compares; "
                "use convnet3, or give the network that method"
            )
        return [stage.flatten(1) for stage in functional_call(_Intermediates(network), self._named(theta), (images,))]

    def _named(self, theta: Tensor) -> dict[str, Tensor]:
        return {f"network.{name}": part for (name, _), part in zip(self.layout, self.split(theta), strict=True)}


def flatten(network: nn.Module) -> Tensor:
    """A copy of the network's parameters as one vector (P,)."""
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])

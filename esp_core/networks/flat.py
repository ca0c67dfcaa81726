"""A network as a function of one flat parameter vector, in which trajectories, subspaces and gradients are written."""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call


class _Heads(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.features(images)  # type: ignore[operator]
        return features, self.network.classifier(features)  # type: ignore[operator]


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
        named = {f"network.{name}": part for (name, _), part in zip(self.layout, self.split(theta), strict=True)}
        return functional_call(self._heads, named, (images,))


def flatten(network: nn.Module) -> Tensor:
    """A copy of the network's parameters as one vector (P,)."""
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])

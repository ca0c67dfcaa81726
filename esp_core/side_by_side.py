"""Training networks of one architecture side by side: their weights stacked, each step one call for all of them.

A small batch leaves a GPU idle between launches; S networks in one call share them. The arithmetic is that of `training.train`, with the
same draws for each network, in another order of summation.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from esp_core.descent import SGD
from esp_core.training import Images, Protocol, augmented, batches, mix

RANDOM = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout", "StochasticDepth")


def can_stack(network: nn.Module) -> bool:
    """Whether S networks can be trained so: not where one draws in its forward pass, since each has its own stream of draws."""
    return not any(type(module).__name__ in RANDOM and module.p for module in network.modules())


def train(
    networks: Sequence[nn.Module],
    images: Images,
    settings: Protocol,
    generators: Sequence[torch.Generator],
    precision: str = "float32",
) -> list[list[float]]:
    """Train `networks` in place, network s with the draws of `generators[s]`; the mean training loss of every epoch, network by network.

    `precision` bfloat16 multiplies in it, under torch's autocast.
    """
    for network in networks:
        network.train()
    weights, buffers = stack_module_state(list(networks))
    shell = deepcopy(networks[0]).to("meta")

    def loss(own: dict[str, Tensor], running: dict[str, Tensor], x: Tensor, y: Tensor, other: Tensor, share: Tensor) -> Tensor:
        with torch.autocast(images.labels.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = functional_call(shell, (own, running), (x,))
        return share * F.cross_entropy(logits, y) + (1 - share) * F.cross_entropy(logits, other)

    losses = vmap(loss)
    optimiser = SGD(weights.values(), settings.momentum, settings.weight_decay)
    curves = []
    for epoch in range(settings.epochs):
        orders = [batches(torch.randperm(len(images), generator=generator), settings.batch) for generator in generators]
        total = torch.zeros(len(networks), device=images.labels.device)
        for indices in zip(*orders, strict=True):
            mixed = [mix(*augmented(images, i, settings, g), settings.cutmix, g) for i, g in zip(indices, generators, strict=True)]
            x, y, other = (torch.stack(parts) for parts in list(zip(*mixed, strict=True))[:3])
            value = losses(weights, buffers, x, y, other, torch.tensor([m[3] for m in mixed], device=x.device, dtype=x.dtype))
            optimiser.zero()
            value.sum().backward()
            optimiser.step(settings.rate(epoch))
            total += value.detach() * x.shape[1]
        curves.append((total / len(images)).tolist())
    _unstack(networks, weights, buffers)
    return [list(curve) for curve in zip(*curves, strict=True)]


@torch.no_grad()
def _unstack(networks: Sequence[nn.Module], weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> None:
    for s, network in enumerate(networks):
        own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        for name, stacked in {**weights, **buffers}.items():
            own[name].copy_(stacked[s])

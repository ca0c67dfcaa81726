"""`gradient`: match the training gradients of each class, layer by layer (DC, Zhao et al., 2021; DSA, Zhao and Bilen, 2021;
IDC, Kim et al., 2022).

The loss to differentiate is chosen by the teacher; teachers that train their networks choose cross-entropy.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from esp_core.objectives import Batch, Objective, State, Statistics
from esp_core.runtime.errors import UserError

EPSILON = 1e-6  # added to the product of the norms, as in DC's code

LAYERS = {"weights": 2, "conv": 4}  # the fewest dimensions of a parameter that is compared


class Gradient(Objective):
    """Distance between the mean gradients of real and synthetic images, summed over the classes present in both.

    `metric`: "cosine", one minus the cosine of each row of a parameter as a matrix (outputs, rest), summed over rows and parameters
    (DC's and DSA's code, match_loss); or "mse", the summed squared difference (IDC's code). `layers`: "weights", all parameters except
    biases and norms, which have one dimension (DC's code); or "conv", only the convolutions (IDC's code).
    """

    traceable = False
    by_class = True

    def __init__(self, metric: str, layers: str):
        self.distance, self.dimensions = (_cosine if metric == "cosine" else _squared), LAYERS[layers]

    def statistics(self, batch: Batch) -> dict[str, Tensor]:
        return {"class_gradient": batch.class_gradient}

    def loss(self, synthetic: Statistics, real: Statistics, state: State) -> Tensor:
        here = (synthetic["class_count"] > 0) & (real["class_count"] > 0)
        ours, theirs = (s["class_gradient"] / s["class_count"][:, None].clamp(min=1) for s in (synthetic, real))
        pairs = zip(self._matrices(ours, state), self._matrices(theirs, state), strict=True)
        distances = [torch.where(here[:, None], self.distance(a, b), 0.0).sum() for a, b in pairs]
        if not distances:
            raise UserError("objectives.gradient.layers: the network has no such parameters; use weights")
        return torch.stack(distances).sum()

    def _matrices(self, gradients: Tensor, state: State) -> Iterator[Tensor]:
        """(classes, P) -> (classes, outputs, rest) for each parameter that is compared."""
        sizes = [size for size, _ in _shapes(state)]
        for part, (_, shape) in zip(gradients.split(sizes, dim=1), _shapes(state), strict=True):
            if len(shape) >= self.dimensions:
                yield part.view(len(part), shape[0], -1)


def _shapes(state: State) -> list[tuple[int, tuple[int, ...]]]:
    return [(torch.Size(shape).numel(), shape) for _, shape in state.network.layout]


def _cosine(ours: Tensor, theirs: Tensor) -> Tensor:
    """Two (classes, outputs, rest) -> (classes, outputs)."""
    product = (ours * theirs).sum(-1)
    return 1 - product / (ours.norm(dim=-1) * theirs.norm(dim=-1) + EPSILON)


def _squared(ours: Tensor, theirs: Tensor) -> Tensor:
    return (ours - theirs).square().sum(-1)


def build(metric: Literal["cosine", "mse"] = "cosine", layers: Literal["weights", "conv"] = "weights") -> Gradient:
    """See `Gradient`.

    metric: distance of two mean gradients of a class; one minus the cosine row by row, DC's and DSA's code ("ours"), or mse, IDC's code
    layers: the parameters that count; weights, all but biases and norms, DC's and DSA's code, or conv, the convolutions, IDC's code
    """
    return Gradient(metric, layers)

"""`distribution`: match class means of the network's output (Eq. 8; DM, Zhao and Bilen, 2021)."""

import torch
from torch import Tensor

from esp_core.objectives import Batch, Objective, State, Statistics
from esp_core.runtime.errors import UserError


class Distribution(Objective):
    """Squared distance of the class means of real and synthetic images under the same augmentation.

    `output`: "features" before the classifier, as DM's code does, or "logits", as Eq. 8 is printed.
    `reduction`: "mean" over the classes present (Eq. 8) or their "sum" (DM's code).
    """

    def __init__(self, output: str = "features", reduction: str = "mean"):
        if output not in ("features", "logits"):
            raise UserError(f"objectives.distribution.output: {output!r}; use features or logits")
        if reduction not in ("mean", "sum"):
            raise UserError(f"objectives.distribution.reduction: {reduction!r}; use mean or sum")
        self.output, self.reduction = output, reduction

    def statistics(self, batch: Batch) -> dict[str, Tensor]:
        return {f"class_{self.output}": batch.class_sum(batch.features if self.output == "features" else batch.logits)}

    def loss(self, synthetic: Statistics, real: Statistics, state: State) -> Tensor:
        here = (synthetic["class_count"] > 0) & (real["class_count"] > 0)
        ours, theirs = (s[f"class_{self.output}"] / s["class_count"][:, None].clamp(min=1) for s in (synthetic, real))
        distance = torch.where(here, (theirs - ours).square().sum(1), 0.0)
        return distance.sum() / here.sum() if self.reduction == "mean" else distance.sum()


def build(output: str = "features", reduction: str = "mean") -> Distribution:
    """See `Distribution`."""
    return Distribution(output, reduction)

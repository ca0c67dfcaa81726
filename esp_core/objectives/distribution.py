"""`distribution`: match class means of the network's output (Eq. 8; DM, Zhao and Bilen, 2021)."""

from typing import Literal

import torch
from torch import Tensor

from esp_core.objectives import Batch, Objective, State, Statistics


class Distribution(Objective):
    """Squared distance between the class means of real and synthetic images under the same augmentation.

    `output`: "features", the input of the classifier (DM's code), or "logits" (Eq. 8 as printed).
    `reduction`: "mean" over the classes present (Eq. 8) or their "sum" (DM's code).
    """

    def __init__(self, output: str, reduction: str):
        self.output, self.reduction = output, reduction

    def statistics(self, batch: Batch) -> dict[str, Tensor]:
        return {f"class_{self.output}": batch.class_sum(batch.features if self.output == "features" else batch.logits)}

    def loss(self, synthetic: Statistics, real: Statistics, state: State) -> Tensor:
        here = (synthetic["class_count"] > 0) & (real["class_count"] > 0)
        ours, theirs = (s[f"class_{self.output}"] / s["class_count"][:, None].clamp(min=1) for s in (synthetic, real))
        distance = torch.where(here, (theirs - ours).square().sum(1), 0.0)
        return distance.sum() / here.sum() if self.reduction == "mean" else distance.sum()


def build(output: Literal["features", "logits"] = "features", reduction: Literal["mean", "sum"] = "mean") -> Distribution:
    """See `Distribution`.

    output: what is matched, the features before the classifier (DM's code, better than what is printed) or the logits (ESP Eq. 8)
    reduction: over the classes; mean, ESP Eq. 8; sum, DM's code
    """
    return Distribution(output, reduction)

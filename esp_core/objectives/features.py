"""`features`: match class means at every depth of the network, and classify real images by the synthetic class means
(CAFE, Wang et al., CVPR 2022)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from esp_core.objectives import Batch, Objective, State, Statistics

NEEDS = ("intermediates",)  # asked of the network


class Features(Objective):
    """CAFE's two losses over the classes present in both sets, for any number of classes, image sizes and depths.

    Feature alignment: the squared distance between the class means at every stage of the network, summed over classes and values.
    `deep` is the weight of the last two stages, `shallow` that of the stages before. `centre` is added to the weight of the last stage,
    which CAFE's code counts twice. Discrimination: `discrimination` times the cross-entropy, summed over real images, of the inner
    products of an image's features with the synthetic class means. Losses sum over C x F_k values, so they grow with both.
    """

    traceable = False

    def __init__(self, deep: float, shallow: float, centre: float, discrimination: float):
        self.deep, self.shallow, self.centre, self.discrimination = deep, shallow, centre, discrimination

    def statistics(self, batch: Batch) -> dict[str, Tensor]:
        stages = batch.state.network.intermediates(batch.theta, batch.images)
        sums = {f"class_stage_{depth}": batch.class_sum(stage) for depth, stage in enumerate(stages)}
        # Only the rows of real images are used.
        return sums | {"each_features": stages[-1].detach(), "each_label": batch.labels}

    def loss(self, synthetic: Statistics, real: Statistics, state: State) -> Tensor:
        here = (synthetic["class_count"] > 0) & (real["class_count"] > 0)
        last = sum(name.startswith("class_stage_") for name in synthetic) - 1
        total = torch.zeros((), device=here.device)
        for depth in range(last + 1):
            ours, theirs = (s[f"class_stage_{depth}"] / s["class_count"][:, None].clamp(min=1) for s in (synthetic, real))
            distance = torch.where(here, (theirs - ours).square().sum(1), 0.0)
            total = total + self._weight(depth, last) * distance.sum()
        return total + self.discrimination * _discrimination(ours, here, real)

    def _weight(self, depth: int, last: int) -> float:
        return (self.deep if depth >= last - 1 else self.shallow) + (self.centre if depth == last else 0.0)


def _discrimination(centres: Tensor, here: Tensor, real: Statistics) -> Tensor:
    """Cross-entropy against the class `centres` (classes, F), summed over the real images of the classes present (`here`, (classes,))."""
    labels = real["each_label"]
    products = (real["each_features"] @ centres.T).masked_fill(~here, -torch.inf)
    known = here.index_select(0, labels)
    return torch.where(known, F.cross_entropy(products, labels.where(known, here.int().argmax()), reduction="none"), 0.0).sum()


def build(
    deep: Annotated[float, ">= 0"] = 1.0,
    shallow: Annotated[float, ">= 0"] = 0.1,
    centre: Annotated[float, ">= 0"] = 1.0,
    discrimination: Annotated[float, ">= 0"] = 0.01,
) -> Features:
    """See `Features`; the numbers are those of CAFE's code.

    deep: weight of the network's last two stages; first_weight and second_weight there
    shallow: weight of the stages before; third_weight and fourth_weight there
    centre: what is added to the weight of the last stage, the features before the classifier
    discrimination: weight of the cross-entropy of real features against the synthetic class means; inner_weight there
    """
    return Features(deep, shallow, centre, discrimination)

"""Choosing real images: at random, or by herding (Welling, 2009; Chen et al., 2012; iCaRL's greedy form)."""

import torch
from torch import Tensor

from esp_core.datasets import Dataset
from esp_core.networks.flat import FlatNetwork
from esp_core.parametrisations import RealImages
from esp_core.runtime.errors import UserError
from esp_core.runtime.transfer import send


class Selector(RealImages):
    """Real training images by class; herding needs a trained network, `network` at `theta` (P,)."""

    def __init__(self, data: Dataset, generator: torch.Generator, network: FlatNetwork | None = None, theta: Tensor | None = None):
        self.data, self.generator, self.network, self.theta = data, generator, network, theta
        labels = data.train.labels.cpu()
        self.members = [(labels == label).nonzero().squeeze(1) for label in range(len(data.classes))]

    def pick(self, label: int, count: int, how: str) -> Tensor:
        members = self.members[label]
        if len(members) < count:
            raise UserError(f"class {self.data.classes[label]}: {count} images wanted, {len(members)} there; lower the IPC")
        if how == "herding":
            chosen = members[herd(self._features(members), count)]
        else:
            chosen = members[torch.randperm(len(members), generator=self.generator)[:count]]
        return self.images(chosen)

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Up to `count` images of every class, drawn without replacement: normalised (n, C, H, W), labels (n,) on the CPU."""
        index, labels = self.choose(count, generator)
        return self.images(index), labels

    def choose(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The indices (n,) and labels (n,), on the CPU, of up to `count` images of every class, drawn without replacement."""
        chosen = [members[torch.randperm(len(members), generator=generator)[:count]] for members in self.members]
        labels = torch.cat([torch.full((len(c),), label) for label, c in enumerate(chosen)])
        return torch.cat(chosen), labels

    def images(self, index: Tensor) -> Tensor:
        """The training images at `index` (n,), normalised (n, C, H, W)."""
        images = self.data.train.images
        return self.data.normalise(images.index_select(0, send(index, images.device)))

    def _features(self, members: Tensor) -> Tensor:
        if self.network is None or self.theta is None:
            raise UserError("herding: needs a trained network; give the recipe teacher.kind: experts")
        with torch.no_grad():
            return torch.cat([self.network(self.theta, self.images(part))[0] for part in members.split(500)]).cpu()


def herd(features: Tensor, count: int) -> Tensor:
    """Indices (count,) chosen greedily from features (n, d), so that the mean of the chosen ones stays close to the mean of all."""
    mean = features.mean(0)
    total = torch.zeros_like(mean)
    free = torch.ones(len(features), dtype=torch.bool)
    chosen = []
    for k in range(1, count + 1):
        distance = (mean - (total + features) / k).square().sum(1)
        distance[~free] = torch.inf
        best = int(distance.argmin())
        free[best] = False
        total = total + features[best]
        chosen.append(best)
    return torch.tensor(chosen)

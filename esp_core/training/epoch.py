"""One epoch of SGD, and the accuracy: shared by the training of experts and by evaluation."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_core.augment import dsa
from esp_core.augment.dsa import Placement
from esp_core.datasets.dataset import Dataset
from esp_core.training.optimisers import SGD

Forward = Callable[[Tensor], Tensor]  # images (n, C, H, W), normalised -> logits (n, classes)
Loss = Callable[[Tensor, Tensor], Tensor]  # logits (n, K) and labels, (n,) or soft (n, K) -> their mean loss


class Images:
    """Images on the device, floating-point or uint8 (n, C, H, W), normalised batch by batch; labels (n,), or soft labels (n, K)."""

    def __init__(self, images: Tensor, labels: Tensor, data: Dataset):
        device = data.train.images.device
        self.images, self.labels, self.data = images.to(device), labels.to(device), data

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self) -> Tensor:
        """One normalised image, (1, C, H, W)."""
        return self.data.normalise(self.images[:1])

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images and labels at `index` (b,), on the device."""
        return self.data.normalise(self.images.index_select(0, index)), self.labels.index_select(0, index)


def batches(order: Tensor, size: int) -> list[Tensor]:
    """Indices (n,) in batches of `size`. A last batch of one is merged into the one before, since batch norm needs two images."""
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def sizes(n: int, batch: int, epochs: int) -> dict[int, int]:
    """How many images a training on `n` images processes in batches of each size, over all epochs."""
    found: dict[int, int] = {}
    for part in batches(torch.arange(n), batch):
        found[len(part)] = found.get(len(part), 0) + epochs * len(part)
    return found


class Mix(NamedTuple):
    """CutMix of a batch (Yun et al., 2019): each image takes the pixels in `box` from image `other`; `share` of its pixels are its own."""

    other: Tensor  # (b,) int64
    box: tuple[int, int, int, int]  # top, bottom, left, right
    share: float

    def __call__(self, x: Tensor) -> Tensor:
        """Mix images (b, C, H, W)."""
        top, bottom, left, right = self.box
        mixed = x.clone()
        mixed[:, :, top:bottom, left:right] = x.index_select(0, self.other)[:, :, top:bottom, left:right]
        return mixed


def draw_mix(count: int, side: int, probability: float, generator: torch.Generator) -> Mix | None:
    """With `probability`, CutMix for `count` images of `side` pixels: a box of area ~ U(0, 1) = Beta(1, 1) around a random centre."""
    if probability == 0 or float(torch.rand((), generator=generator)) >= probability:
        return None
    kept = float(torch.rand((), generator=generator))
    other = torch.randperm(count, generator=generator)
    half, centre = (1 - kept) ** 0.5 / 2, torch.rand(2, generator=generator).tolist()
    (top, bottom), (left, right) = ((max(0, int(side * (c - half))), min(side, int(side * (c + half)))) for c in centre)
    return Mix(other, (top, bottom, left, right), 1 - (bottom - top) * (right - left) / side**2)


def mixed_loss(network: Forward, x: Tensor, y: Tensor, mix: Mix | None, loss: Loss = F.cross_entropy) -> Tensor:
    """The loss of a batch, mixed by `mix` if given; each of the two labels is weighted by its share of the pixels."""
    if mix is None:
        return loss(network(x), y)
    logits = network(mix(x))
    own, other = loss(logits, y), loss(logits, y.index_select(0, mix.other))
    return own if mix.share == 1 else mix.share * own + (1 - mix.share) * other


class Drawn(NamedTuple):
    """A batch and its random draws: indices (b,), augmentation and, possibly, CutMix."""

    chosen: Tensor
    augment: Placement
    mix: Mix | None


def draw(order: Tensor, batch: int, augment: str, side: int, generator: torch.Generator, cutmix: float = 0.0) -> list[Drawn]:
    """The batches of an epoch over the images `order` (n,), `side` pixels wide. They are on the CPU; `send` them to the device at once.

    All draws come from `generator`, batch by batch: one operation per batch, parameters per image.
    """
    drawn = []
    for index in batches(order, batch):
        placement = dsa.draw(augment, len(index), generator, same_operation=True).at()
        drawn.append(Drawn(index, placement, draw_mix(len(index), side, cutmix, generator)))
    return drawn


def steps(
    images: Images,
    batches: Iterable[Drawn],
    loss_of: Callable[[Tensor, Tensor, Mix | None], Tensor],
    optimiser: SGD,
    rate: float,
) -> Iterator[tuple[Tensor, int]]:
    """Train on the `batches` of an epoch; yield the mean loss of each (on the device) and its size.

    `loss_of` maps images (b, C, H, W), labels (b,) and the mix to the mean loss.
    """
    for drawn in batches:
        x, y = images.batch(drawn.chosen)
        loss = loss_of(drawn.augment(x), y, drawn.mix)
        optimiser.zero()
        loss.backward()
        optimiser.step(rate)
        yield loss.detach(), len(x)


@torch.no_grad()
def accuracy(network: nn.Module, images: Images, batch: int = 500, forward: Forward | None = None) -> float:
    """Percent of `images` that `network` classifies correctly; `forward`, such as an `Engine`, runs it if given."""
    network.eval()
    right = torch.zeros((), dtype=torch.int64, device=images.labels.device)
    for x, y in zip(images.images.split(batch), images.labels.split(batch), strict=True):
        right += ((forward or network)(images.data.normalise(x)).argmax(1) == y).sum()
    return 100.0 * int(right) / len(images)

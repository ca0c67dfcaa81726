"""One epoch of SGD, and the accuracy: what the training of experts and that of an evaluation share."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from esp_core.augment import dsa
from esp_core.datasets.dataset import Dataset
from esp_core.training.descent import SGD

Forward = Callable[[Tensor], Tensor]  # images (n, C, H, W), normalised -> logits (n, classes)


class Images:
    """Images on the device: floating-point or uint8 (n, C, H, W), normalised batch by batch; labels (n,), or soft ones (n, K)."""

    def __init__(self, images: Tensor, labels: Tensor, data: Dataset):
        device = data.train.images.device
        self.images, self.labels, self.data = images.to(device), labels.to(device), data

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self) -> Tensor:
        """One image as a network sees it, (1, C, H, W)."""
        return self.batch(torch.arange(1))[0]

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images and labels at `index` (b,), on the CPU or the device."""
        index = index.to(self.labels.device)
        return self.data.normalise(self.images[index]), self.labels[index]


def batches(order: Tensor, size: int) -> list[Tensor]:
    """Indices (n,) in batches of `size`; a last batch of one joins the one before it, since batch norm needs two images."""
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def sizes(n: int, batch: int, epochs: int) -> dict[int, int]:
    """How many images a training on `n` walks through in batches of each size."""
    found: dict[int, int] = {}
    for part in batches(torch.arange(n), batch):
        found[len(part)] = found.get(len(part), 0) + epochs * len(part)
    return found


def steps(
    images: Images,
    batch: int,
    augment: str,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    optimiser: SGD,
    rate: float,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, int]]:
    """Train an epoch: each image once, in random order, augmented; yields the mean loss of each batch, on the device, and its size.

    `loss_of` images (b, C, H, W) and their labels is their mean loss. All draws come from `generator`, on the CPU.
    """
    for index in batches(torch.randperm(len(images), generator=generator), batch):
        x, y = images.batch(index)
        loss = loss_of(dsa.draw(augment, len(x), generator, same_operation=True)(x), y)
        optimiser.zero()
        loss.backward()
        optimiser.step(rate)
        yield loss.detach(), len(x)


@torch.no_grad()
def accuracy(network: nn.Module, images: Images, batch: int = 500, forward: Forward | None = None) -> float:
    """Percent of `images` that `network` names rightly, run by `forward`, an `Engine` for one, or by itself."""
    network.eval()
    right = torch.zeros((), dtype=torch.int64, device=images.labels.device)
    for index in torch.arange(len(images)).split(batch):
        x, y = images.batch(index)
        right += ((forward or network)(x).argmax(1) == y).sum()
    return 100.0 * int(right) / len(images)

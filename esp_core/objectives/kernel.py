"""`kernel`: kernel ridge regression on the synthetic set predicts the labels of real images (KIP, Nguyen et al., ICLR and NeurIPS 2021).

This is random-feature KIP: the kernel is that of the features of many finite random networks (RFAD, Loo et al., NeurIPS 2022), not the
exact kernel of an infinitely wide ConvNet. The exact one needs, for each pair of images and each layer, the covariance of every two
positions, (H W)^2 numbers: 4.2 MB a pair at 32 x 32 pixels, for 5,000 real times 500 synthetic images a step. Labels stay hard, so only
images are learned, and the set is tested like every other, by training a network on it.
"""

from typing import Annotated

import torch
from torch import Tensor

from esp_core.augment import dsa
from esp_core.augment.dsa import Chain, Draw, Placement
from esp_core.objectives import NonAdditive, OuterStep, State, one_hot
from esp_core.runtime.transfer import send
from esp_core.training.traced import Traced

PART = 256  # images in memory at once; the gradient does not depend on it


class Kernel(NonAdditive):
    """0.5 x mean squared error of K_ts (K_ss + ridge tr(K_ss) / n I)^-1 y_s and y_t; y: one-hot labels minus 1 / classes (KIP's code).

    K is the inner product of `features`, of the networks in state.ensemble or, without an ensemble, of state.theta. Each step draws
    one augmentation for all images, real and synthetic; one per class would reveal the class to the kernel. The regression is
    solved in float64.
    """

    needs_real = True

    def __init__(self, ridge: float):
        super().__init__()
        self.ridge = ridge

    def backward(self, step: OuterStep, weight: float) -> Tensor:
        assert step.images is not None and step.labels is not None
        state, units, synthetic = step.state, step.units, step.synthetic
        networks = state.theta[None] if state.ensemble is None else state.ensemble
        parts = units.split(max(1, PART // synthetic.images_per_unit))
        real_parts = step.images.split(PART)
        sizes = {len(part) for part in real_parts} | {len(part) * synthetic.images_per_unit for part in parts}
        shared = _shared(dsa.draw(step.augment, 1, step.generator), sizes)
        parts, draws, own_labels, labels = send((parts, shared, synthetic.labels(units), step.labels), step.images.device)
        with torch.no_grad():
            real = torch.cat([features(state, networks, draws[len(part)](part), step.traced) for part in real_parts])
            own = torch.cat([features(state, networks, draws[len(images)](images)) for images in map(synthetic.decode, parts)])
        own.requires_grad_()
        loss = regression(own, own_labels, real, labels, state.classes, self.ridge)
        cotangents = torch.autograd.grad(weight * loss, own)[0].split([len(part) * synthetic.images_per_unit for part in parts])
        learned = [t for t in synthetic.tensors.values() if t.requires_grad]
        for part, cotangent in zip(parts, cotangents, strict=True):
            images = synthetic.decode(part)
            images.backward(_image_gradient(state, networks, images.detach(), draws[len(images)], cotangent), inputs=learned)
        return loss.detach().to(own.dtype)

    def forward_passes(self, images: int, real: int) -> int:
        return real


def features(state: State, networks: Tensor, images: Tensor, traced: Traced | None = None) -> Tensor:
    """(n, M F): the classifier inputs of the M networks, concatenated and divided by sqrt(M F)."""

    def seen(theta: Tensor, images: Tensor) -> Tensor:
        return state.network(theta, images.contiguous(memory_format=torch.channels_last))[0]

    def one(theta: Tensor) -> Tensor:
        found: Tensor | None = None if traced is None else traced("features", seen, len(images), theta, images)
        return state.network(theta, images)[0] if found is None else found

    joined = torch.cat([one(theta) for theta in networks], dim=1)
    return joined / joined.shape[1] ** 0.5


def regression(synthetic: Tensor, labels: Tensor, real: Tensor, real_labels: Tensor, classes: int, ridge: float) -> Tensor:
    """The loss of `Kernel` in float64, from features (n, D) and (m, D) and labels (n,) and (m,)."""
    support, query = _double(synthetic), _double(real)
    kernel = support @ support.T
    least = ridge * kernel.trace() / len(support)
    dual = torch.linalg.solve(
        kernel + least * torch.eye(len(support), dtype=kernel.dtype, device=kernel.device), _centred(labels, classes, kernel)
    )
    predicted = query @ (support.T @ dual)
    return 0.5 * (predicted - _centred(real_labels, classes, kernel)).square().mean()


def _centred(labels: Tensor, classes: int, like: Tensor) -> Tensor:
    return one_hot(labels, classes).to(like) - 1 / classes


def _double(values: Tensor) -> Tensor:
    return values.to("cpu" if values.device.type == "mps" else values.device).double()  # Apple's GPUs have no float64


def _shared(draw: Draw | Chain, sizes: set[int]) -> dict[int, Placement]:
    """The first operation of `draw`, for each number of images in `sizes`."""
    return {size: draw.at(torch.zeros(size, dtype=torch.int64)) for size in sizes}


def _image_gradient(state: State, networks: Tensor, images: Tensor, draw: Placement, cotangent: Tensor) -> Tensor:
    """d<features, cotangent>/d images (n, C, H, W), with the graph of only one network in memory at a time."""
    images.requires_grad_()
    width = cotangent.shape[1] // len(networks)
    for theta, own in zip(networks, cotangent.split(width, dim=1), strict=True):
        state.network(theta, draw(images))[0].backward(own / cotangent.shape[1] ** 0.5, inputs=[images])
    assert images.grad is not None
    return images.grad


def build(ridge: Annotated[float, "> 0"] = 0.000001) -> Kernel:
    """See `Kernel`.

    ridge: ridge of the kernel regression, as a part of the kernel's mean diagonal; KIP's code
    """
    return Kernel(ridge)

"""A small cell, and the outer loss of it written out: one graph over the whole set, gradients by double backward, class means by a loop."""

import torch
import torch.nn.functional as F

from esp_core import networks, objectives, parametrisations
from esp_core.augment import dsa
from esp_core.datasets.normalisation import Normalisation
from esp_core.distillation.passes import Weighted
from esp_core.networks.flat import FlatNetwork, flatten
from esp_core.objectives import State
from esp_core.parametrisations import Task

CLASSES, SIZE = 3, 8
KINDS = {
    "pixels": {"kind": "pixels"},
    "formation": {"kind": "formation", "init": "noise"},
    "latent": {"kind": "latent", "decoders": 2, "code_channels": 2, "width": 2, "upsamplings": 2},
}
CHOICES = {
    "distribution features": {"distribution": {"output": "features"}},
    "distribution logits, sum": {"distribution": {"output": "logits", "reduction": "sum"}},
    "projection": {"projection": {}},
    "projection l2": {"projection": {"norm": "l2"}},
    "projection relative": {"projection": {"form": "relative"}},
    "direction": {"direction": {}},
    "esp": {"distribution": {"output": "features"}, "projection": {}},
}


def setting(kind, loss="bce", seed=3, device="cpu"):
    """A synthetic set, a state, real images and their labels, all in torch's default type."""
    generator = torch.Generator().manual_seed(seed)
    task = Task(CLASSES, 4, 1, SIZE, Normalisation(torch.tensor([0.4]), torch.tensor([0.3])))
    synthetic = parametrisations.build(task, **KINDS[kind])
    synthetic.initialise(generator, None)
    synthetic.to(torch.device(device))
    for tensor in synthetic.tensors.values():
        tensor.requires_grad_()
    network = networks.build("convnet3", 1, SIZE, CLASSES, seed=seed + 2, width=4, depth=2).to(device)
    theta = flatten(network)
    basis = torch.linalg.qr(torch.randn(len(theta), 3, generator=generator)).Q.to(device)
    draw = dsa.draw("color_crop_cutout_flip_scale_rotate", CLASSES, generator)
    direction = torch.randn(len(theta), generator=generator).to(device)
    state = State(FlatNetwork(network), theta, CLASSES, draw, loss, basis, direction)
    real = torch.randn(15, 1, SIZE, SIZE, generator=generator).to(device)
    return synthetic, state, real, (torch.arange(15) + seed) % CLASSES


def weighted(choice):
    weights = iter((0.7, 1.3))
    return [Weighted(name, objectives.build(name, **settings), next(weights)) for name, settings in CHOICES[choice].items()]


def plain(choice, synthetic, state, real, real_labels):
    """The outer loss written out: one graph over the whole set, G by double backward, class means by a loop."""
    images = synthetic.decode(torch.arange(synthetic.units))
    labels = synthetic.labels(torch.arange(synthetic.units))

    def augmented(x, y):
        return torch.cat([state.draw(x[i : i + 1], y[i : i + 1]) for i in range(len(x))])

    theta = state.theta.detach().requires_grad_()
    features, logits = state.network(theta, augmented(images, labels))
    if state.loss == "bce":
        p = logits.sigmoid()
        target = torch.eye(CLASSES)[labels]
        inner = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    else:
        inner = -logits.log_softmax(1)[torch.arange(len(labels)), labels].mean()
    gradient = torch.autograd.grad(inner, theta, create_graph=True)[0]
    with torch.no_grad():
        real_features, real_logits = state.network(theta, augmented(real, real_labels))
    total, weights = 0.0, iter((0.7, 1.3))
    for name, settings in CHOICES[choice].items():
        if name == "distribution":
            ours, theirs = (logits, real_logits) if settings["output"] == "logits" else (features, real_features)
            value = sum(((theirs[real_labels == c].mean(0) - ours[labels == c].mean(0)) ** 2).sum() for c in range(CLASSES))
            value = value if settings.get("reduction") == "sum" else value / CLASSES
        elif name == "projection":
            left = gradient - sum((e @ gradient) * e for e in state.basis.T)
            norm = (lambda v: (v * v).sum().sqrt()) if settings.get("norm") == "l2" else (lambda v: v.abs().sum())
            value = norm(left) / (norm(gradient) if settings.get("form") == "relative" else 1.0)
        else:
            value = 1 + F.cosine_similarity(gradient[None], state.direction[None])[0]
        total = total + next(weights) * value
    return total

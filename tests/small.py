"""A dataset and experts so small that a stage runs in a second, and recipes over them."""

from dataclasses import replace

import torch

from esp_core import networks
from esp_core.datasets import Dataset, Split, whitening
from esp_core.datasets.normalisation import Normalisation
from esp_core.networks.flat import FlatNetwork, flatten

CLASSES, SIZE = 3, 8
NETWORK = {"name": "convnet3", "width": 4, "depth": 2}
SGD = {"kind": "sgd", "lr_pixels": 0.5, "momentum": 0.5, "decay": "constant"}
ADAM = {"kind": "adam", "lr_codes": 0.1, "lr_decoders": 0.01, "decay": "linear"}
TEACHER = {"kind": "experts", "length": 2, "steps": 3, "start_max": 2, "lr": 0.1}
LATENT = {"kind": "latent", "decoders": 2, "code_channels": 1, "width": 2, "upsamplings": 1}
COMMON = {
    "real_batch": 4,
    "synthetic_batch": None,
    "synthetic_per_class": None,
    "augment": "color_crop_cutout",
    "micro_batch": None,
    "precision": "float32",
    "compile": "auto",
    "iterations": 7,
}


def dataset(per_class=12):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES * per_class) % CLASSES
    images = torch.randint(0, 120, (len(labels), 1, SIZE, SIZE), generator=generator)
    for label in range(CLASSES):  # each class has a bright row of its own
        images[labels == label, :, 2 * label + 1] += 130
    images = images.byte()
    split = Split(images, labels)
    scaled = images.float() / 255
    mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3), correction=0)
    return Dataset("small", split, Split(images[: CLASSES * 4], labels[: CLASSES * 4]), ("a", "b", "c"), Normalisation(mean, std), "digest")


def whitened(data, fitted_to=None):
    """`data` normalised by ZCA, fitted to so many of its training images."""
    fit = whitening.fit(data.train.images[:fitted_to].numpy())
    return replace(data, normalisation=Normalisation.read(data.normalisation.mean.tolist(), data.normalisation.std.tolist(), fit))


class Experts:
    """Five snapshots of two made-up trajectories."""

    snapshots = 5

    def __init__(self):
        network = networks.build(**NETWORK, channels=1, size=SIZE, classes=CLASSES, seed=1)
        self.layout = FlatNetwork(network).layout
        generator = torch.Generator().manual_seed(2)
        start = flatten(network)
        self.weights = torch.stack(
            [torch.stack([start + 0.02 * k * torch.randn(len(start), generator=generator) for k in range(5)]) for _ in range(2)]
        )

    def __len__(self):
        return 2

    def check(self, spec, data):
        pass

    def segment(self, expert, start, length):
        return self.weights[expert, start : start + length + 1]

    def snapshot(self, expert, index):
        return self.weights[expert, index]


def dropping(channels, size, classes):
    """A network that draws in its forward pass and keeps running statistics: `small:dropping`."""
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(channels), torch.nn.Flatten(), torch.nn.Dropout(0.5))
    return network.append(torch.nn.Linear(channels * size * size, classes))


def recipe(method):
    if method == "dm":
        own = {"parametrisation": {"kind": "pixels", "init": "random"}, "teacher": {"kind": "random"}, "optimiser": SGD}
        return {**COMMON, **own, "objectives": {"distribution": {"weight": 1.0, "reduction": "sum"}}}
    own = {"parametrisation": LATENT, "teacher": TEACHER, "optimiser": ADAM}
    return {**COMMON, **own, "objectives": {"distribution": {"weight": 1.0}, "projection": {"weight": 0.01}}}


def spec(method="esp", ipc=2, **changes):
    return {"study_seed": 0, "dataset": "small", "ipc": ipc, "method": method, "network": NETWORK, "recipe": {**recipe(method), **changes}}

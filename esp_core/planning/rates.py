"""Sizes and speeds that a plan reckons with: operations of networks, images of condensed sets, rates of devices. Light: no torch.

Operations and activations are those of one image's forward pass. esp_core/planning/rates.yaml says where each rate is from.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from esp_core.datasets import catalogue
from esp_core.runtime.errors import UserError
from esp_core.study import schema
from esp_core.study.budget import decoder_numbers
from esp_core.study.config import Study

CONVNET_LAYERS = 13


@dataclass(frozen=True)
class Network:
    """Operations and activations of one image forward, parameters, layers."""

    operations: float
    activations: float
    parameters: int
    layers: int


@dataclass(frozen=True)
class Shape:
    """Of a dataset."""

    classes: int
    channels: int
    size: int
    train: int
    test: int
    known: bool = True

    @property
    def values(self) -> int:
        """Numbers of one image."""
        return int(self.channels * self.size**2)


@cache
def rates() -> dict[str, Any]:
    """esp_core/planning/rates.yaml."""
    return dict(yaml.safe_load(Path(__file__).with_name("rates.yaml").read_text(encoding="utf-8")))


def shape(study: Study, dataset: str) -> Shape:
    """Classes, image and counts of a dataset; of one that is the user's own a guess, for it has not been read yet."""
    settings = study.datasets[dataset]
    entry, size = catalogue.ENTRIES.get(settings["kind"]), settings["options"].get("size")
    if entry is None:
        return Shape(10, 3, size or 32, 10_000, 2_000, known=False)
    channels, own, _ = entry.shape
    return Shape(entry.classes, channels, size or own, entry.train, entry.test)


def network(settings: Mapping[str, Any], channels: int, size: int, classes: int) -> Network:
    """A network on images (channels, size, size): ConvNet-3 by formula, another from the table, its image's area in proportion."""
    if settings["name"] == "convnet3":
        return _convnet(settings.get("width", 128), settings.get("depth", 3), channels, size, classes)
    table = rates()["networks"]
    row = table.get(settings["name"], table["default"])
    area, thin, short = (size / row["size"]) ** 2, _share(settings, row, "thin", "of"), _share(settings, row, "short", "among")
    more = (classes - 10) * (row["features"] * thin + 1)
    operations, activations = row["operations"] * area * thin**2 * short, row["activations"] * area * thin * short
    return Network(operations, activations, int(row["parameters"] * thin**2 * short + more), max(1, round(row["layers"] * short)))


def _share(settings: Mapping[str, Any], row: Mapping[str, Any], setting: str, full: str) -> float:
    """The part of a network that a setting leaves: the sum of a list, or a number, over its full value."""
    value = settings.get(row.get(setting, ""), row.get(full, 1.0))
    return float(sum(value) if isinstance(value, list | tuple) else value) / float(row.get(full, 1.0))


def _convnet(width: int, depth: int, channels: int, size: int, classes: int) -> Network:
    """`depth` blocks of a 3x3 convolution, norm, ReLU and halving by average, then a linear layer."""
    operations = activations = parameters = 0
    inputs, side = channels, size
    for _ in range(depth):
        operations += 2 * 9 * inputs * width * side**2
        parameters += 9 * inputs * width + 3 * width
        activations += 3 * width * side**2 + width * (side // 2) ** 2
        inputs, side = width, side // 2
    features = width * side**2
    return Network(operations + 2 * features * classes, activations + classes, parameters + (features + 1) * classes, 4 * depth + 1)


@dataclass(frozen=True)
class Device:
    """Rates of a device, the processor's threads of each job, and the names of the rates that were never measured."""

    name: str
    values: Mapping[str, float]
    threads: int = 1
    estimated: tuple[str, ...] = ()

    def forward(self, net: Network) -> float:
        """Seconds of one image's forward pass."""
        return net.operations / self.values["operations"] + net.activations / self.values["activations"]

    def step(self, net: Network, kind: str = "step") -> float:
        """Seconds that a training step takes beside its images; `student`, one that is differentiated through."""
        return self.values[kind] + self.values["layer"] * max(0, net.layers - CONVNET_LAYERS)

    def speed_up(self, size: int) -> float:
        """How much faster several threads are; images below 32x32 are too small to keep them busy."""
        return float(self.threads ** self.values["speed_up"]) if size >= 32 else 1.0

    @property
    def total_memory(self) -> float:
        """Bytes of the device, or of this machine."""
        return self.values["device_memory"] or float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def device(name: str, threads: int = 1) -> Device:
    """A device of esp_core/planning/rates.yaml. Raises UserError for an unknown one."""
    known = rates()["devices"]
    if name not in known:
        raise UserError(f"--device {name}: no rates{schema.allowed(name, known)}; add them to esp_core/planning/rates.yaml")
    return Device(name, {key: entry["value"] for key, entry in known[name]["rates"].items()}, threads, tuple(known[name]["estimated"]))


def synthetic_images(parametrisation: Mapping[str, Any], ipc: int, data: Shape) -> int:
    """Images that a condensed set decodes to: those stored, times the tiles of `formation`, or codes times decoders of `latent`."""
    kind, stored = parametrisation["kind"], ipc * data.classes
    if kind == "formation":
        return int(stored * parametrisation["factor"] ** 2)
    if kind != "latent":
        return stored
    decoders, side = parametrisation["decoders"], data.size // 2 ** parametrisation["upsamplings"]
    code = data.classes * parametrisation["code_channels"] * side**2
    shared = decoders * decoder_numbers(data.channels, *(parametrisation[key] for key in ("code_channels", "width", "upsamplings")))
    room = stored * data.values - shared
    return int(max(1, room // code) * data.classes * decoders)


def decoder(parametrisation: Mapping[str, Any], data: Shape) -> Network:
    """The decoder of one image as a network; nothing where pixels are stored."""
    if parametrisation["kind"] != "latent":
        return Network(0, 0, 0, 0)
    operations = activations = 0
    inputs, layers = parametrisation["code_channels"], parametrisation["upsamplings"]
    for layer in range(layers):
        side = data.size // 2 ** (layers - 1 - layer)
        outputs = data.channels if layer == layers - 1 else parametrisation["width"]
        operations += 2 * 9 * inputs * outputs * side**2
        activations += 3 * outputs * side**2
        inputs = outputs
    return Network(operations, activations, 0, layers)

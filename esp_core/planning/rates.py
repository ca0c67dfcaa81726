"""The speeds and sizes that a plan reckons with. esp_core/planning/rates.yaml says where each is from."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml

from esp_core.distillation import memory
from esp_core.planning.counting import Count
from esp_core.runtime.errors import UserError
from esp_core.study import schema

CONVNET_CALLS = 13  # of ConvNet-3, for which `step` was measured


@cache
def rates() -> dict[str, Any]:
    """esp_core/planning/rates.yaml."""
    return dict(yaml.safe_load(Path(__file__).with_name("rates.yaml").read_text(encoding="utf-8")))


def rate(section: str, name: str) -> float:
    """A rate of a section that holds one for each name."""
    return float(rates()[section][name]["value"])


@dataclass(frozen=True)
class Device:
    """Rates of a device, the processor's threads of each job, and the names of the rates that were never measured."""

    name: str
    values: Mapping[str, float]
    threads: int = 1
    estimated: tuple[str, ...] = ()

    def forward(self, count: Count) -> float:
        """Seconds of one image's forward pass."""
        return count.operations / self.values["operations"] + count.activations / self.values["activations"]

    def step(self, count: Count, kind: str = "step") -> float:
        """Seconds that a training step takes beside its images; `student`, one that is differentiated through."""
        return self.values[kind] + self.values["call"] * max(0, count.calls - CONVNET_CALLS)

    def speed_up(self, size: int) -> float:
        """How much faster several threads are; images below 32x32 are too small to keep them busy."""
        return float(self.threads ** self.values["speed_up"]) if size >= 32 else 1.0

    @property
    def is_gpu(self) -> bool:
        """Whether it has memory of its own."""
        return self.values["device_memory"] > 0

    @property
    def total_memory(self) -> float:
        """Bytes of the device, or of this machine."""
        return self.values["device_memory"] or memory.total_bytes(torch.device("cpu"))


def device(name: str, threads: int = 1) -> Device:
    """A device of esp_core/planning/rates.yaml. Raises UserError for an unknown one."""
    known = rates()["devices"]
    if name not in known:
        raise UserError(f"--device {name}: no rates{schema.allowed(name, known)}; add them to esp_core/planning/rates.yaml")
    return Device(name, {key: entry["value"] for key, entry in known[name]["rates"].items()}, threads, tuple(known[name]["estimated"]))

"""The speeds and sizes that a plan is based on. esp_core/planning/rates.yaml has the source of each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml

from esp_core.distillation import memory
from esp_core.planning.counting import Count
from esp_core.runtime.errors import UserError
from esp_core.study import schema

LAUNCHED = ("step", "student", "call", "augmented")  # rates of work that a CPU gives to a GPU piece by piece
CONVNET_CALLS = 13  # of ConvNet-3, on which `step` was measured


@cache
def rates() -> dict[str, Any]:
    """The content of esp_core/planning/rates.yaml."""
    return dict(yaml.safe_load(Path(__file__).with_name("rates.yaml").read_text(encoding="utf-8")))


def rate(section: str, name: str) -> float:
    """A rate from a section with one value per name."""
    return float(rates()[section][name]["value"])


@dataclass(frozen=True)
class Device:
    """Rates of a device, the CPU threads of a job, the names of the rates that are estimates, and how many jobs share the device."""

    name: str
    values: Mapping[str, float]
    threads: int = 1
    estimated: tuple[str, ...] = ()
    share: int = 1

    @property
    def busy(self) -> "Device":
        """The same with rates that count only the time in which a GPU works, so that no other job can use it."""
        waits = dict.fromkeys(("start", "first", "compilation"), 1.0) | dict.fromkeys(LAUNCHED, self.values["waiting"])
        return replace(self, values={name: value * (1 - waits.get(name, 0.0)) for name, value in self.values.items()})

    def forward(self, count: Count) -> float:
        """Seconds of one image's forward pass."""
        return count.operations / self.values["operations"] + count.activations / self.values["activations"]

    def step(self, count: Count, kind: str = "step") -> float:
        """Seconds of a training step besides the work on its images; `student` is a step that is differentiated through."""
        return self.values[kind] + self.values["call"] * max(0, count.calls - CONVNET_CALLS)

    def speed_up(self, size: int) -> float:
        """The speed-up by several threads; none for images below 32x32, which are too small."""
        return float(self.threads ** self.values["speed_up"]) if size >= 32 else 1.0

    @property
    def type(self) -> str:
        """cuda or cpu, for which `compile_policy` decides."""
        return "cuda" if self.is_gpu else "cpu"

    @property
    def is_gpu(self) -> bool:
        """Whether the device has its own memory."""
        return self.values["device_memory"] > 0

    @property
    def total_memory(self) -> float:
        """Bytes of memory of the device, or of this machine."""
        return self.values["device_memory"] or memory.total_bytes(torch.device("cpu"))


def device(name: str, threads: int = 1, share: int = 1) -> Device:
    """A device in esp_core/planning/rates.yaml, shared by `share` jobs. Raises UserError for an unknown one."""
    known = rates()["devices"]
    if name not in known:
        raise UserError(f"--device {name}: no rates{schema.allowed(name, known)}; add them to esp_core/planning/rates.yaml")
    values = {key: entry["value"] for key, entry in known[name]["rates"].items()}
    return Device(name, values, threads, tuple(known[name]["estimated"]), share)

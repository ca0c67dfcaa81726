"""Dataset condensation by choice of parametrisation, teacher and objectives.

Public names are loaded on first use, so that modules such as `provenance` and `study` never import torch.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_FACE = {"condense": "esp_core.api", "evaluate": "esp_core.api", "load_condensed": "esp_core.distillation.condensed"}
_PACKAGES = ("augment", "datasets", "networks", "objectives", "parametrisations", "teachers", "trajectories")


def __getattr__(name: str) -> Any:
    if name in _FACE:
        return getattr(importlib.import_module(_FACE[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"esp_core.{name}")
    raise AttributeError(f"module 'esp_core' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_FACE, *_PACKAGES, "__version__"])

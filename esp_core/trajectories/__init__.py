"""Expert trajectories: how they are trained, stored, read, and what they span.

Stages import the modules they use, so that editing the reader retrains nothing; `Trajectories` is here for people.
"""

import importlib
from typing import Any

__all__ = ["Trajectories"]


def __getattr__(name: str) -> Any:
    if name == "Trajectories":
        return importlib.import_module("esp_core.trajectories.reader").Trajectories
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

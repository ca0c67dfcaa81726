"""Expert trajectories: training, storage, reading, and their subspace.

Stages import the submodules that they use, so that a change to the reader retrains nothing; `Trajectories` is here for users.
"""

import importlib
from typing import Any

__all__ = ["Trajectories"]


def __getattr__(name: str) -> Any:
    if name == "Trajectories":
        return importlib.import_module("esp_core.trajectories.reader").Trajectories
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

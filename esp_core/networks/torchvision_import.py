"""Make `import torchvision` work where a CUDA build of it stands beside a CPU-only torch.

Its compiled operators need CUDA's libraries and cannot be loaded then, and the import ends in "operator
torchvision::nms does not exist", although networks, transforms and data sources use none of them. Declaring the two
operators that the import asks for is enough. `torchvision.ops.nms` and torchvision's own PNG reader stay out of reach.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

# An operator lives as long as the library that declares it.
_DECLARED: list[torch.library.Library] = []


@cache
def load() -> None:
    """Call before the first `import torchvision`. Does nothing where torchvision's operators load, or where it is not installed."""
    found = find_spec("torchvision")
    for folder in (found.submodule_search_locations or []) if found else []:
        for compiled in Path(folder).glob("_C*.so"):
            try:
                torch.ops.load_library(compiled)
            except OSError:
                library = torch.library.Library("torchvision", "FRAGMENT")
                for name in ("nms", "qnms"):
                    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                _DECLARED.append(library)

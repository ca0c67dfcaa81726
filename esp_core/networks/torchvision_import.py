"""Make `import torchvision` work with a CUDA build of torchvision beside a CPU-only torch.

Its compiled operators need CUDA's libraries and cannot be loaded, so the import fails with "operator torchvision::nms does
not exist", although networks, transforms and datasets use none of them. Declaring the two operators that the import looks up
is enough. `torchvision.ops.nms` and torchvision's own PNG reader still do not work.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

# An operator exists as long as the library that declares it.
_DECLARED: list[torch.library.Library] = []


@cache
def load() -> None:
    """Call before the first `import torchvision`. Does nothing if torchvision's operators load or torchvision is not installed."""
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

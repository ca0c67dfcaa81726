"""Image data: each dataset is prepared once as one HDF5 file, then opened as tensors on any device.

A kind is a module of this package with `read(request, **options) -> Source`; `catalogue` lists the official files.
Public names are loaded on first use, since the Snakefile reads `catalogue` without torch or h5py.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esp_core.datasets.dataset import Dataset, Split, load

__all__ = ["Dataset", "Split", "load"]

FORMAT = "esp-dataset-1"  # stored in every prepared file and checked when it is opened


def __getattr__(name: str) -> Any:
    if name in __all__:
        from esp_core.datasets import dataset

        return getattr(dataset, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

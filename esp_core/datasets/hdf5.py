"""The user's own images in one HDF5 file; arrays in groups are named by path, such as train/images."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py

from esp_core.datasets import arrays


@contextmanager
def _opened(path: Path) -> Iterator[dict[str, h5py.Dataset]]:
    with h5py.File(path, "r") as file:
        found: dict[str, h5py.Dataset] = {}
        file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        yield found


read = partial(arrays.source, _opened)

"""The user's own images in one HDF5 file; arrays in groups are named by their path, such as train/images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from esp_core.datasets import arrays
from esp_core.runtime.errors import UserError


class Member:
    """An array of the file; the file is open only while blocks are read."""

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        with _reading(path) as file:
            self.shape: tuple[int, ...] = file[name].shape
            self.dtype: np.dtype[Any] = file[name].dtype

    def blocks(self, rows: int) -> Iterator[NDArray[Any]]:
        """The array in order, `rows` of its first axis at a time."""
        with _reading(self.path) as file:
            for start in range(0, self.shape[0], rows):
                yield file[self.name][start : start + rows]


class Hdf5:
    """The arrays of an HDF5 file, those in groups too."""

    def __init__(self, path: Path):
        self.path = path
        self._names: list[str] = []
        with _reading(path) as file:
            file.visititems(lambda name, item: self._names.append(name) if isinstance(item, h5py.Dataset) else None)

    def names(self) -> Sequence[str]:
        """The arrays' paths."""
        return self._names

    def array(self, name: str) -> Member:
        """One of them."""
        return Member(self.path, name)


@contextmanager
def _reading(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:  # h5py raises any of these
        raise UserError(f"{path}: damaged, cut short or not an HDF5 file ({error}); make it again") from error


read = partial(arrays.source, Hdf5)

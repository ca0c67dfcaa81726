"""The user's own images in one .npz file, such as numpy.savez_compressed writes and MedMNIST gives out. Pickled arrays are refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from numpy.lib.npyio import NpzFile

from esp_core.datasets import arrays


@contextmanager
def _opened(path: Path) -> Iterator[NpzFile]:
    with path.open("rb") as file:
        yield NpzFile(file, allow_pickle=False)


read = partial(arrays.source, _opened)

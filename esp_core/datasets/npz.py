"""The user's own images in one .npz file, such as numpy.savez_compressed writes and MedMNIST gives out. Pickled arrays are refused."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from esp_core.datasets import arrays
from esp_core.runtime.errors import UserError

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Member:
    """An array of the file, decompressed as it is read: numpy itself would hold the whole array in memory."""

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        with self._opened() as (_, shape, fortran, dtype):
            self.shape, self.dtype = shape, dtype
        if dtype.hasobject:
            raise UserError(f"{path}: {name} holds pickled objects, which are not read for safety; save a plain array of numbers")
        if fortran and len(shape) > 1:
            raise UserError(f"{path}: {name} is in Fortran order; save numpy.ascontiguousarray of it")

    def blocks(self, rows: int) -> Iterator[NDArray[Any]]:
        """The array in order, `rows` of its first axis at a time."""
        row_bytes = self.dtype.itemsize * int(np.prod(self.shape[1:]))
        with self._opened() as (file, *_):
            for start in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - start)
                data = file.read(count * row_bytes)
                if len(data) < count * row_bytes:
                    raise EOFError(f"{self.name} ends early")
                yield np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])

    @contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], tuple[int, ...], bool, np.dtype[Any]]]:
        with _reading(self.path), zipfile.ZipFile(self.path) as content, content.open(f"{self.name}.npy") as file:
            version = npy.read_magic(file)
            if version not in HEADERS:
                raise ValueError(f"version {version} of the npy format")
            yield (file, *HEADERS[version](file))


class Npz:
    """The arrays of an .npz file."""

    def __init__(self, path: Path):
        self.path = path
        with _reading(path), zipfile.ZipFile(path) as content:
            self._names = [name.removesuffix(".npy") for name in content.namelist()]

    def names(self) -> Sequence[str]:
        """The arrays' names."""
        return self._names

    def array(self, name: str) -> Member:
        """One of them."""
        return Member(self.path, name)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise UserError(f"{path}: damaged, cut short or not an .npz file ({error}); make it again") from error


read = partial(arrays.source, Npz)

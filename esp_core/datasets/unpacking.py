"""Unpack an archive that nobody vouches for: names are checked first, and only the wanted files are written, all or none."""

import gzip
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Literal

from esp_core.runtime.errors import UserError, naming

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)


def unpack(archive: Path, folder: Path, wanted: Callable[[str], bool], check: Callable[[Path], None], remedy: str) -> None:
    """Write the files of a zip, tar or tar.gz whose names `wanted` accepts; they lie in `folder.name`/ there and in `folder` here.

    `check` is called with the new folder before it takes its place, where an older one is replaced. Raises UserError, ending in
    `remedy`, for a damaged archive, for a member that would leave its folder or is a link, and where nothing was wanted; nothing is
    left behind then.
    """
    with naming(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with naming(folder), tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        new = Path(temporary) / folder.name
        try:
            for name, file in _files(archive, wanted, remedy):
                target = Path(temporary) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as output:
                    shutil.copyfileobj(file, output, 1 << 20)
        except DAMAGED as error:
            raise UserError(f"{archive}: damaged or cut short ({error}); {remedy}") from error
        if not new.is_dir():
            raise UserError(f"{archive}: not the expected archive, it holds no {folder.name}/ with the official files; {remedy}")
        check(new)
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)


def _files(archive: Path, wanted: Callable[[str], bool], remedy: str) -> Iterator[tuple[str, IO[bytes]]]:
    if zipfile.is_zipfile(archive):
        yield from _zip_files(archive, wanted, remedy)
    else:
        yield from _tar_files(archive, wanted, remedy)


def _zip_files(archive: Path, wanted: Callable[[str], bool], remedy: str) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as content:
        for name in content.namelist():
            _check(archive, name, remedy)
        for info in content.infolist():
            if not info.is_dir() and wanted(info.filename):
                with content.open(info) as file:
                    yield info.filename, file


def _tar_files(archive: Path, wanted: Callable[[str], bool], remedy: str) -> Iterator[tuple[str, IO[bytes]]]:
    with archive.open("rb") as start:
        mode: Literal["r:gz", "r:"] = "r:gz" if start.read(2) == b"\x1f\x8b" else "r:"
    with tarfile.open(archive, mode) as content:
        for info in content:
            _check(archive, info.name, remedy)
            if not (info.isfile() or info.isdir()):
                raise UserError(f"{archive}: member {info.name} is a link or a device, which no official archive holds; {remedy}")
            if info.isfile() and wanted(str(PurePosixPath(info.name))) and (file := content.extractfile(info)):
                yield str(PurePosixPath(info.name)), file


def _check(archive: Path, name: str, remedy: str) -> None:
    windows = PureWindowsPath(name)
    if windows.drive or windows.root or ".." in windows.parts:
        raise UserError(f"{archive}: member {name} would be written outside its folder, so nothing was unpacked; {remedy}")

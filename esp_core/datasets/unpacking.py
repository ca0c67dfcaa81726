"""Unpack an archive that nobody vouches for: names are checked first, and only the wanted files are written, all or none."""

import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

from esp_core.runtime.errors import UserError, naming

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)


def unpack(archive: Path, folder: Path, wanted: Callable[[str], bool], check: Callable[[Path], None], remedy: str) -> None:
    """Write the files of a zip, tar or tar.gz whose names `wanted` accepts; they lie in `folder.name`/ there and in `folder` here.

    `check` is called with the new folder before it takes its place, where an older one is replaced. Raises UserError, ending in
    `remedy`, for a damaged archive, for a member that would leave its folder, and where nothing was wanted; nothing is left behind
    then. Links and devices are not unpacked.
    """
    with naming(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            new = Path(temporary) / folder.name
            try:
                (_unzip if zipfile.is_zipfile(archive) else _untar)(archive, temporary, wanted, remedy)
            except DAMAGED as error:
                raise UserError(f"{archive}: damaged or cut short ({error}); {remedy}") from error
            if not new.is_dir():
                raise UserError(f"{archive}: not the expected archive, it holds no {folder.name}/ with the official files; {remedy}")
            check(new)
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)


def _unzip(archive: Path, place: str, wanted: Callable[[str], bool], remedy: str) -> None:
    with zipfile.ZipFile(archive) as content:
        names = content.namelist()
        _check(archive, names, remedy)
        content.extractall(place, [name for name in names if wanted(name) and not name.endswith("/")])


def _untar(archive: Path, place: str, wanted: Callable[[str], bool], remedy: str) -> None:
    with archive.open("rb") as start:
        is_compressed = start.read(2) == b"\x1f\x8b"
    with tarfile.open(archive, "r:gz" if is_compressed else "r:") as content:
        members = content.getmembers()
        _check(archive, [member.name for member in members], remedy)
        files = [member for member in members if member.isfile() and wanted(str(PurePosixPath(member.name)))]
        content.extractall(place, files, filter="data")


def _check(archive: Path, names: list[str], remedy: str) -> None:
    for name in names:
        windows = PureWindowsPath(name)
        if windows.drive or windows.root or ".." in windows.parts:
            raise UserError(f"{archive}: member {name} would be written outside its folder, so nothing was unpacked; {remedy}")

"""Archives that nobody vouches for, and a disk that fills up: what is refused, and what stays."""

import subprocess
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from dataset_files import left_in, tar, zipped
from official_server import FILE, FOLDER, REMEDY, inside, packed, unpacked

from esp_core.datasets import downloading
from esp_core.runtime.errors import UserError


@pytest.mark.parametrize("name", ["../evil", "/evil", f"{FOLDER}/../../evil", "..\\evil", "C:\\evil", f"{FOLDER}/evil/../../../evil"])
@pytest.mark.parametrize("pack", [tar, zipped])
def test_nothing_leaves_the_folder_of_an_archive(tmp_path, pack, name):
    """Also where all names are wanted."""
    (tmp_path / "archive").write_bytes(pack({f"{FOLDER}/good": b"good", name: b"evil"}))
    (tmp_path / "in" / "place").mkdir(parents=True)
    with suppress(UserError):
        downloading.unpack(tmp_path / "archive", tmp_path / "in" / "place", lambda _: True, REMEDY)
    assert all(path == "archive" or path.startswith("in/place/") for path in left_in(tmp_path)) and not Path("/evil").exists()


def stored_with_a_wrong_byte(files):
    """A zip whose CRC does not fit."""
    data = bytearray(zipped(files, zipfile.ZIP_STORED))
    data[len(data) // 4] ^= 1
    return bytes(data)


DAMAGES = (
    lambda files: tar(files)[:-5000],
    lambda files: tar(files, "w")[:100_000],
    lambda files: tar(files)[:10] + b"\xff" * 500 + tar(files)[510:],
    lambda files: tar(files, "w:bz2")[:-5000],
    lambda files: b"<html>Not here</html>",
    lambda files: b"",
    stored_with_a_wrong_byte,
    lambda files: zipped(files)[:-10],
)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        *((damage, "damaged or cut short (") for damage in DAMAGES),
        (lambda files: tar({"cifar-100-python/train": b"p"}), f"not the expected archive, it holds no {FOLDER}/ with the official files; "),
        (lambda files: tar({FILE: files[FILE]}, links=[(f"{FOLDER}/test.bin", "/etc/passwd")]), "test.bin: missing; "),
        (lambda files: tar({FILE: files[FILE]}, links=[(f"{FOLDER}/test.bin", "train.bin")]), "test.bin: missing; "),
    ],
)
def test_an_archive_of_a_mirror_that_is_damaged_or_another_changes_nothing(cifar, download, line_of, tmp_path, damage, said):
    path = packed(tmp_path / "mirror", damage(inside(cifar[0])))
    old = tmp_path / "downloads" / FOLDER / "old"
    unpacked({"old": b"old"}, old.parent)
    line = line_of(download, "cifar100", path.parent)
    assert line.startswith(f"{path}: {said}") and line.endswith(f"; {REMEDY}")
    assert left_in(tmp_path) == [f"downloads/{FOLDER}/old", f"mirror/{FOLDER}.tar.gz"]
    path.write_bytes(tar(inside(cifar[0])))
    download("cifar100", path.parent)
    assert not old.exists()


@pytest.mark.parametrize("where", ["archive", "members"])
def test_a_disk_that_fills_up_while_files_arrive(cifar, download, line_of, small_disk, where):
    """The archive of 530 KiB does not fit, nor do the members of an archive that lies elsewhere."""
    mirror = packed(small_disk.parent / "mirror", cifar[1]).parent if where == "members" else None
    name = f"{FOLDER}.tar.gz" if where == "archive" else FOLDER
    line = line_of(download, "cifar100", mirror, out=small_disk / "files.json")
    assert line == f"{small_disk / name}: the disk is full: free some space, then run the same command again"
    assert left_in(small_disk) == ([f"{FOLDER}.tar.gz.part"] if where == "archive" else [])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    line = line_of(download, "cifar100", mirror, out=small_disk / "files.json")
    assert line == f"{small_disk / name}: the file system is read-only: choose a folder that can be written"

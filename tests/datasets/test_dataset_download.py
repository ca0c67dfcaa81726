"""Getting official files: from a server that breaks off, from mirrors of every form, and what is refused."""

import hashlib
import json
import subprocess
import threading
import time
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from dataset_files import cifar_records, digest, left_in, tar, zipped

from esp_core import datasets
from esp_core.datasets import fetching, unpacking
from esp_core.datasets.catalogue import ENTRIES
from esp_core.datasets.official import File
from esp_core.runtime.errors import UserError

FOLDER = "cifar-100-binary"
FILE = f"{FOLDER}/train.bin"
MIRROR = "give a mirror, by the key mirror of the dataset or by ESP_MIRROR"
REMEDY = f"get {FOLDER}.tar.gz again from https://www.cs.toronto.edu/~kriz/cifar.html"


class Server:
    """Serves `files` with byte ranges. `faults` are taken one a request: a status, or how many bytes to send before breaking off."""

    def __init__(self):
        self.files, self.faults, self.requests = {}, [], []
        self.ranges = True
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                owner.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler):
        asked = handler.headers.get("Range")
        self.requests.append((handler.path, asked))
        fault = self.faults.pop(0) if self.faults else None
        content = self.files.get(handler.path.lstrip("/"))
        if content is None or isinstance(fault, str):
            handler.send_error(int(fault or 404))
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if start and start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        handler.wfile.write(content[start:] if fault is None else content[start : start + fault])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSES", (0.0, 0.0, 0.0, 0.0))
    for variable in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def official(name, content):
    return File(name, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def cifar(monkeypatch, server):
    """A CIFAR-100 of 100 images a part, whose official server is `server`; returns its members' bytes and its archive's."""
    files = {f"{name}.bin": cifar_records([[i % 20, i] for i in range(100)], seed)[0] for seed, name in enumerate(("train", "test"))}
    archive = tar({f"{FOLDER}/{name}": content for name, content in files.items()} | {f"{FOLDER}/readme.html": b"hello"})
    members = tuple(official(*file) for file in files.items())
    entry = replace(ENTRIES["cifar100"], url=server.url, archive=official(f"{FOLDER}.tar.gz", archive), members=members)
    monkeypatch.setitem(ENTRIES, "cifar100", entry)
    server.files[f"{FOLDER}.tar.gz"] = archive
    return files, archive


@pytest.fixture
def tiny(monkeypatch, server):
    """A TinyImageNet of text files, whose members have no digests on record."""
    files = {"wnids.txt": b"n1\n", "train/n1/images/a.JPEG": b"picture", "test/images/b.JPEG": b"unlabelled"}
    archive = zipped({f"tiny-imagenet-200/{name}": content for name, content in files.items()})
    entry = replace(ENTRIES["tinyimagenet"], url=server.url, archive=official("tiny-imagenet-200.zip", archive))
    monkeypatch.setitem(ENTRIES, "tinyimagenet", entry)
    server.files["tiny-imagenet-200.zip"] = archive
    return files, archive


def facts(path):
    return json.loads(path.read_text())


def test_from_the_official_server_to_a_prepared_store(cifar, server, download, prepare):
    files, _ = cifar
    listed = download("cifar100")
    assert server.requests == [(f"/{FOLDER}.tar.gz", None)]
    content = facts(listed)
    assert (content["from"], content["verified"], content["folder"]) == (server.url, "members", FOLDER)
    assert [(f["name"], f["size"], f["sha256"]) for f in content["files"]] == [
        (name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
    ]
    assert left_in(listed.parent) == [f"{FOLDER}.tar.gz", f"{FOLDER}/test.bin", f"{FOLDER}/train.bin", "files.json"]
    data = datasets.load(prepare("cifar100", listed))
    assert data.train.images[0].numpy().tobytes() == files["train.bin"][2:3074]


def test_a_second_download_asks_nobody_and_writes_the_same(cifar, server, download):
    listed = download("cifar100")
    before = listed.read_bytes()
    listed.unlink()
    assert download("cifar100").read_bytes() == before and len(server.requests) == 1


def test_files_json_moves_with_its_folder(cifar, download, prepare, tmp_path):
    listed = download("cifar100")
    listed.parent.rename(tmp_path / "elsewhere")
    assert len(datasets.load(prepare("cifar100", tmp_path / "elsewhere" / "files.json")).train) == 100


def test_a_broken_line_is_resumed_where_it_broke(cifar, server, download):
    server.faults = [1000, "503", 5000, None]
    download("cifar100")
    assert [asked for _, asked in server.requests] == [None, "bytes=1000-", "bytes=1000-", "bytes=6000-"]


def test_a_server_without_ranges_is_read_from_the_start(cifar, server, download):
    server.ranges, server.faults = False, [1000]
    listed = download("cifar100")
    assert len(server.requests) == 2 and digest(listed.parent / f"{FOLDER}.tar.gz") == ENTRIES["cifar100"].archive.sha256


def test_a_later_call_goes_on_after_giving_up(cifar, server, download, line_of):
    server.faults = [1000, "503", "503", "503", "503"]
    line = line_of(download, "cifar100")
    assert line == (
        f"{server.url}/{FOLDER}.tar.gz: HTTP Error 503: Service Unavailable, 5 attempts; run the same command again to go on "
        f"where it stopped, or {MIRROR}"
    )
    server.requests.clear()
    download("cifar100")
    assert server.requests == [(f"/{FOLDER}.tar.gz", "bytes=1000-")]


@pytest.mark.parametrize("more", [b"", b"more"])
def test_a_part_that_was_whole_is_taken_and_one_that_is_longer_dropped(cifar, server, download, tmp_path, more):
    part = tmp_path / "downloads" / f"{FOLDER}.tar.gz.part"
    part.parent.mkdir()
    part.write_bytes(cifar[1] + more)
    assert facts(download("cifar100"))["verified"] == "members"
    assert not part.exists() and [asked for _, asked in server.requests] == [f"bytes={len(cifar[1] + more)}-", *([None] if more else [])]


def test_a_missing_file_is_not_asked_for_twice(cifar, server, download, line_of, tmp_path):
    server.files.clear()
    line = line_of(download, "cifar100")
    assert line == f"{server.url}/{FOLDER}.tar.gz: the server answers 404 Not Found; {MIRROR}"
    assert len(server.requests) == 1 and left_in(tmp_path / "downloads") == []


def test_a_server_that_is_not_there(cifar, server, download, line_of, tmp_path):
    server.http.shutdown()
    server.http.server_close()
    line = line_of(download, "cifar100")
    assert line.startswith(f"{server.url}/{FOLDER}.tar.gz: <urlopen error [Errno 111] Connection refused>, 5 attempts; ")
    assert left_in(tmp_path) == []


def test_pauses_grow(cifar, server, download, monkeypatch):
    slept = []
    monkeypatch.setattr(fetching, "PAUSES", (1.0, 2.0, 4.0, 8.0))
    monkeypatch.setattr(time, "sleep", slept.append)
    server.faults = ["503", "500", "429"]
    download("cifar100")
    assert slept == [1.0, 2.0, 4.0]


def test_progress_is_shown(cifar, download, capsys):
    download("cifar100")
    assert f"{FOLDER}.tar.gz: 1/1 MB" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[:-100], "cut short, "),
        (lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:], "altered, SHA-256 "),
        (lambda data: tar({"cifar-100-python/train": b"x" * 3}, mode="w"), "cut short, 10,240 bytes where the official file has "),
        (lambda data: data + b"x", "not the official file, "),
    ],
)
def test_a_wrong_archive_from_the_official_server_is_never_opened(cifar, server, download, line_of, tmp_path, monkeypatch, change, said):
    server.files[f"{FOLDER}.tar.gz"] = change(cifar[1])
    monkeypatch.setattr(unpacking, "_untar", lambda *_: pytest.fail("opened"))
    line = line_of(download, "cifar100")
    assert line.startswith(f"{tmp_path / 'downloads' / FOLDER}.tar.gz: {said}") and line.endswith(f"; {REMEDY}")
    assert left_in(tmp_path) == []


# Mirrors.


def inside(files):
    return {f"{FOLDER}/{name}": content for name, content in files.items()}


def packed(folder, content):
    """A mirror whose archive is `content`."""
    folder.mkdir(parents=True)
    (folder / f"{FOLDER}.tar.gz").write_bytes(content)
    return folder / f"{FOLDER}.tar.gz"


def unpacked(files, folder):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("place", [".", "cifar100"])
def test_a_folder_of_unpacked_files_is_read_in_place(cifar, download, prepare, server, tmp_path, place):
    mirror = tmp_path / "mirror"
    unpacked(cifar[0], mirror / place / FOLDER)
    listed = download("cifar100", mirror)
    assert server.requests == [] and left_in(listed.parent) == ["files.json"]
    assert facts(listed)["folder"] == str(mirror / place / FOLDER)
    assert len(datasets.load(prepare("cifar100", listed)).train) == 100


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_repacked_archive_passes(cifar, download, server, tmp_path, mode):
    content = {f"./{name}": data for name, data in reversed(inside(cifar[0]).items())}
    listed = download("cifar100", packed(tmp_path / "mirror", tar(content, mode)).parent)
    assert server.requests == [] and left_in(listed.parent) == [f"{FOLDER}/test.bin", f"{FOLDER}/train.bin", "files.json"]


def test_the_environment_names_a_mirror_and_the_config_comes_first(cifar, download, monkeypatch, server, tmp_path):
    unpacked(cifar[0], tmp_path / "one" / FOLDER)
    unpacked(cifar[0], tmp_path / "two" / FOLDER)
    run = download
    monkeypatch.setenv("ESP_MIRROR", (tmp_path / "one").as_uri())
    assert facts(run("cifar100"))["folder"] == str(tmp_path / "one" / FOLDER)
    assert facts(run("cifar100", tmp_path / "two"))["folder"] == str(tmp_path / "two" / FOLDER)
    assert server.requests == []


def test_a_server_as_mirror_with_the_archive(cifar, download, server):
    server.files = {f"data/{FOLDER}.tar.gz": tar(inside(cifar[0]), "w")}
    listed = download("cifar100", f"{server.url}/data/")
    assert facts(listed)["from"] == f"{server.url}/data/" and server.requests == [(f"/data/{FOLDER}.tar.gz", None)]


def test_a_server_as_mirror_with_the_unpacked_files(cifar, download, server):
    server.files = {f"data/{FOLDER}/{name}": data for name, data in cifar[0].items()}
    listed = download("cifar100", f"{server.url}/data")
    assert left_in(listed.parent) == [f"{FOLDER}/test.bin", f"{FOLDER}/train.bin", "files.json"]
    server.requests.clear()
    download("cifar100", f"{server.url}/data")
    assert server.requests == [(f"/data/{FOLDER}.tar.gz", None)]


def test_a_changed_byte_in_a_mirror_does_not_pass(cifar, download, line_of, server, tmp_path):
    changed = cifar[0] | {"test.bin": cifar[0]["test.bin"][:-1] + b"!"}
    folder, archive = tmp_path / "folder", tmp_path / "archive"
    unpacked(changed, folder / FOLDER)
    packed(archive, tar(inside(changed)))
    server.files = {f"data/{FOLDER}/{name}": data for name, data in changed.items()} | {
        f"whole/{FOLDER}.tar.gz": tar({f"{FOLDER}/test.bin": b""})
    }
    line = line_of(download, "cifar100", folder)
    assert line.startswith(f"{folder / FOLDER / 'test.bin'}: altered, SHA-256 ") and line.endswith(f"; {REMEDY}")
    line = line_of(download, "cifar100", archive)
    assert line.startswith(f"{archive / FOLDER}.tar.gz: test.bin: altered, SHA-256 ") and line.endswith(f"; {REMEDY}")
    line = line_of(download, "cifar100", f"{server.url}/whole")
    assert line == f"{tmp_path / 'downloads' / FOLDER}.tar.gz: train.bin: missing; {REMEDY}"
    line = line_of(download, "cifar100", f"{server.url}/data")
    assert line.startswith(f"{tmp_path / 'downloads' / FOLDER / 'test.bin'}: altered, SHA-256 ")
    assert left_in(tmp_path / "downloads") == [f"{FOLDER}/train.bin"]  # verified, and not fetched again


def test_a_mirror_that_holds_nothing(cifar, download, line_of, tmp_path):
    line = line_of(download, "cifar100", tmp_path / "mirror")
    assert line == (
        f"mirror {tmp_path / 'mirror'}: holds no {FOLDER}.tar.gz nor {FOLDER}/train.bin, itself or in cifar100/; "
        "put one there or name another mirror"
    )
    line = line_of(download, "svhn", tmp_path / "mirror")
    assert line.startswith(f"mirror {tmp_path / 'mirror'}: holds no train_32x32.mat, itself or in svhn/; ")


def test_what_is_not_downloaded(download, line_of):
    line = line_of(download, "digits")
    assert line == "dataset digits: kind digits is not downloaded; only cifar10, cifar100, svhn, tinyimagenet are"


def test_svhn_is_fetched_file_by_file(server, download, monkeypatch, line_of):
    files = {"train_32x32.mat": b"a" * 2000, "test_32x32.mat": b"b" * 1000}
    members = tuple(official(*file) for file in files.items())
    monkeypatch.setitem(ENTRIES, "svhn", replace(ENTRIES["svhn"], url=server.url, members=members))
    server.files, server.faults = dict(files), [500]
    listed = download("svhn")
    assert left_in(listed.parent) == ["files.json", "test_32x32.mat", "train_32x32.mat"] and facts(listed)["folder"] == "."
    assert [asked for _, asked in server.requests] == [None, "bytes=500-", None]


def test_tinyimagenet_is_verified_by_its_archive_and_leaves_the_unlabelled_images(tiny, server, download, line_of, tmp_path):
    listed = download("tinyimagenet")
    names = [f"tiny-imagenet-200/{name}" for name in ("train/n1/images/a.JPEG", "wnids.txt")]
    assert left_in(listed.parent) == ["files.json", "tiny-imagenet-200.zip", *names]
    assert facts(listed)["verified"] == "archive" and facts(listed)["files"] == []
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "tiny-imagenet-200.zip").write_bytes(tiny[1][:-1] + b"!")
    line = line_of(download, "tinyimagenet", tmp_path / "mirror", out=tmp_path / "new" / "files.json")
    assert line.startswith(f"{tmp_path / 'mirror' / 'tiny-imagenet-200.zip'}: altered, SHA-256 ") and left_in(tmp_path / "new") == []


def test_an_unpacked_tinyimagenet_is_said_to_be_unverified(tiny, download, tmp_path, capsys):
    unpacked(tiny[0], tmp_path / "mirror" / "tiny-imagenet-200")
    assert facts(download("tinyimagenet", tmp_path / "mirror"))["verified"] == "nothing"
    said = f"tinyimagenet: {tmp_path / 'mirror' / 'tiny-imagenet-200'} is used as it is, no checksums of its files are on record\n"
    assert capsys.readouterr().err == said


# Archives that nobody vouches for.


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", f"{FOLDER}/../../evil", "..\\evil", "C:\\evil", f"{FOLDER}/..", "\\\\host\\evil"])
@pytest.mark.parametrize("pack", [tar, zipped])
def test_a_member_that_escapes_its_folder(cifar, download, line_of, tmp_path, pack, name):
    path = packed(tmp_path / "mirror", pack({**inside(cifar[0]), name: b"evil"}))
    line = line_of(download, "cifar100", path.parent)
    assert line == f"{path}: member {name} would be written outside its folder, so nothing was unpacked; {REMEDY}"
    assert left_in(tmp_path) == [f"mirror/{FOLDER}.tar.gz"]


def stored_with_a_wrong_byte(files):
    """A zip whose CRC does not fit."""
    data = bytearray(zipped(files, zipfile.ZIP_STORED))
    data[len(data) // 4] ^= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        *(
            (damage, "damaged or cut short (")
            for damage in (
                lambda files: tar(files)[:-5000],
                lambda files: tar(files, "w")[:100_000],
                lambda files: tar(files, "w:xz"),
                lambda files: tar(files)[:10] + b"\xff" * 500 + tar(files)[510:],
                lambda files: b"<html>Not here</html>",
                lambda files: b"",
                stored_with_a_wrong_byte,
                lambda files: zipped(files)[:-10],
            )
        ),
        (
            lambda files: tar({"cifar-100-python/train": b"pickled"}),
            f"not the expected archive, it holds no {FOLDER}/ with the official files; ",
        ),
        *(
            (lambda files, target=target: tar({FILE: files[FILE]}, links=[(f"{FOLDER}/test.bin", target)]), "test.bin: missing; ")
            for target in ("/etc/passwd", "../../secret", "train.bin")
        ),
    ],
)
def test_an_archive_of_a_mirror_that_is_damaged_or_another(cifar, download, line_of, tmp_path, damage, said):
    path = packed(tmp_path / "mirror", damage(inside(cifar[0])))
    line = line_of(download, "cifar100", path.parent)
    assert line.startswith(f"{path}: {said}") and line.endswith(f"; {REMEDY}")
    assert left_in(tmp_path) == [f"mirror/{FOLDER}.tar.gz"]


def test_a_new_folder_replaces_an_old_one_only_when_it_is_verified(tmp_path):
    folder, archive = tmp_path / "data", tmp_path / "a.tar"
    archive.write_bytes(tar({"data/new": b"new"}, "w"))
    folder.mkdir()
    (folder / "old").write_text("old")

    def refuse(_):
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        unpacking.unpack(archive, folder, lambda _: True, refuse, "")
    assert left_in(tmp_path) == ["a.tar", "data/old"]
    unpacking.unpack(archive, folder, lambda _: True, lambda _: None, "")
    assert left_in(tmp_path) == ["a.tar", "data/new"]


@pytest.mark.parametrize("where", ["archive", "members"])
def test_a_disk_that_fills_up_while_files_arrive(cifar, download, line_of, small_disk, where):
    """The archive of 530 KiB does not fit, nor do the members of an archive that lies elsewhere."""
    mirror = None
    if where == "members":
        mirror = packed(small_disk.parent / "mirror", cifar[1]).parent
    name = f"{FOLDER}.tar.gz" if where == "archive" else FOLDER
    line = line_of(download, "cifar100", mirror, out=small_disk / "files.json")
    assert line == f"{small_disk / name}: the disk is full: free some space, then run the same command again"
    assert left_in(small_disk) == ([f"{FOLDER}.tar.gz.part"] if where == "archive" else [])


def test_a_read_only_disk(cifar, download, line_of, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    line = line_of(download, "cifar100", out=small_disk / "files.json")
    assert line == f"{small_disk / FOLDER}.tar.gz: the file system is read-only: choose a folder that can be written"

"""Getting official files: from a server that breaks off, and from mirrors of every form."""

import hashlib
from dataclasses import replace

import pytest
from dataset_files import digest, left_in, tar, zipped
from official_server import FOLDER, MIRROR, REMEDY, facts, inside, official, packed, unpacked

from esp_core import datasets
from esp_core.datasets import downloading, fetching
from esp_core.datasets.catalogue import ENTRIES


def test_from_the_official_server_to_a_prepared_store(cifar, server, download, prepare, tmp_path, capsys):
    files, _ = cifar
    listed = download("cifar100")
    assert server.requests == [(f"/{FOLDER}.tar.gz", None)] and f"{FOLDER}.tar.gz: 1/1 MB" in capsys.readouterr().err
    content = facts(listed)
    assert (content["from"], content["verified"], content["folder"]) == (server.url, "members", FOLDER)
    assert [(f["name"], f["size"], f["sha256"]) for f in content["files"]] == [
        (name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
    ]
    assert left_in(listed.parent) == [f"{FOLDER}.tar.gz", f"{FOLDER}/test.bin", f"{FOLDER}/train.bin", "files.json"]
    before = listed.read_bytes()
    listed.unlink()
    assert download("cifar100").read_bytes() == before and len(server.requests) == 1  # nobody is asked twice
    listed.parent.rename(tmp_path / "elsewhere")
    data = datasets.load(prepare("cifar100", tmp_path / "elsewhere" / "files.json"))
    assert len(data.train) == 100 and data.train.images[0].numpy().tobytes() == files["train.bin"][2:3074]


@pytest.mark.parametrize(
    ("faults", "ranges", "part", "asked", "slept"),
    [
        ([1000, "503", 5000], True, 0, [None, "bytes=1000-", "bytes=1000-", "bytes=6000-"], [1.0, 2.0, 4.0]),
        ([1000], False, 0, [None, "bytes=1000-"], [1.0]),  # a server that sends all of it again
        ([], True, 2000, ["bytes=2000-"], []),  # what an earlier call left
        ([], True, 10**6, ["bytes=1000000-", None], [1.0]),  # another file
    ],
)
def test_a_broken_line_is_resumed_where_it_broke(cifar, server, download, tmp_path, monkeypatch, faults, ranges, part, asked, slept):
    pauses = []
    monkeypatch.setattr(fetching, "PAUSES", (1.0, 2.0, 4.0, 8.0))
    monkeypatch.setattr(fetching.time, "sleep", pauses.append)
    server.faults, server.ranges = faults, ranges
    if part:
        (tmp_path / "downloads").mkdir()
        (tmp_path / "downloads" / f"{FOLDER}.tar.gz.part").write_bytes((cifar[1] * 2)[:part])
    listed = download("cifar100")
    assert [range_ for _, range_ in server.requests] == asked and pauses == slept
    assert digest(listed.parent / f"{FOLDER}.tar.gz") == ENTRIES["cifar100"].archive.sha256


def test_a_server_that_gives_up_and_a_file_that_it_lacks(cifar, server, download, line_of, tmp_path):
    server.faults = [1000, "503", "503", "503", "503"]
    url = f"{server.url}/{FOLDER}.tar.gz"
    assert line_of(download, "cifar100") == (
        f"{url}: HTTP Error 503: Service Unavailable, 5 attempts; run the same command again to go on where it stopped, or {MIRROR}"
    )
    assert left_in(tmp_path) == [f"downloads/{FOLDER}.tar.gz.part"]
    server.requests.clear()
    server.files.clear()
    assert line_of(download, "cifar100") == f"{url}: the server answers 404 Not Found; {MIRROR}" and len(server.requests) == 1
    server.http.shutdown()
    server.http.server_close()
    assert line_of(download, "cifar100").startswith(f"{url}: <urlopen error [Errno 111] Connection refused>, 5 attempts; ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[:-100], "cut short, "),
        (lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:], "altered, SHA-256 "),
        (lambda data: data + b"x", "not the official file, "),
    ],
)
def test_a_wrong_archive_from_the_official_server_is_never_opened(cifar, server, download, line_of, tmp_path, monkeypatch, change, said):
    server.files[f"{FOLDER}.tar.gz"] = change(cifar[1])
    monkeypatch.setattr(downloading, "unpack", lambda *_: pytest.fail("opened"))
    line = line_of(download, "cifar100")
    assert line.startswith(f"{tmp_path / 'downloads' / FOLDER}.tar.gz: {said}") and line.endswith(f"; {REMEDY}")
    assert left_in(tmp_path) == []


def test_a_folder_of_unpacked_files_is_read_in_place_the_configs_before_the_environments(cifar, download, server, monkeypatch, tmp_path):
    unpacked(cifar[0], tmp_path / "one" / FOLDER)
    unpacked(cifar[0], tmp_path / "two" / "cifar100" / FOLDER)
    monkeypatch.setenv("ESP_MIRROR", (tmp_path / "one").as_uri())
    listed = download("cifar100")
    assert facts(listed)["folder"] == str(tmp_path / "one" / FOLDER) and left_in(listed.parent) == ["files.json"]
    assert facts(download("cifar100", tmp_path / "two"))["folder"] == str(tmp_path / "two" / "cifar100" / FOLDER)
    assert server.requests == []


@pytest.mark.parametrize("pack", [tar, lambda files: tar(files, "w"), lambda files: tar(files, "w:xz"), zipped])
def test_a_repacked_archive_passes(cifar, download, server, tmp_path, pack):
    prefix = "" if pack is zipped else "./"
    content = {f"{prefix}{name}": data for name, data in reversed(inside(cifar[0]).items())}
    listed = download("cifar100", packed(tmp_path / "mirror", pack(content)).parent)
    assert server.requests == [] and left_in(listed.parent) == [f"{FOLDER}/test.bin", f"{FOLDER}/train.bin", "files.json"]


def test_a_server_as_mirror_with_the_archive_or_the_unpacked_files(cifar, download, server, tmp_path):
    server.files = {f"data/{FOLDER}.tar.gz": tar(inside(cifar[0]), "w")}
    listed = download("cifar100", f"{server.url}/data/")
    assert facts(listed)["from"] == f"{server.url}/data/" and server.requests == [(f"/data/{FOLDER}.tar.gz", None)]
    server.files = {f"data/{name}": data for name, data in inside(cifar[0]).items()}
    for wanted in (3, 1):  # those that are there are not fetched again
        server.requests.clear()
        listed = download("cifar100", f"{server.url}/data", out=tmp_path / "new" / "files.json")
        assert left_in(listed.parent) == [f"{FOLDER}/test.bin", f"{FOLDER}/train.bin", "files.json"]
        assert len(server.requests) == wanted


def test_a_changed_byte_in_a_mirror_does_not_pass(cifar, download, line_of, server, tmp_path):
    changed = cifar[0] | {"test.bin": cifar[0]["test.bin"][:-1] + b"!"}
    folder, archive = tmp_path / "folder", tmp_path / "archive"
    unpacked(changed, folder / FOLDER)
    packed(archive, tar(inside(changed)))
    server.files = {f"data/{name}": data for name, data in inside(changed).items()}
    for mirror, name in (
        (folder, f"{folder / FOLDER / 'test.bin'}"),
        (archive, f"{archive / FOLDER}.tar.gz: test.bin"),
        (f"{server.url}/data", f"{tmp_path / 'downloads' / FOLDER / 'test.bin'}"),
    ):
        line = line_of(download, "cifar100", mirror)
        assert line.startswith(f"{name}: altered, SHA-256 ") and (line.endswith(f"; {REMEDY}") or mirror == f"{server.url}/data")
    assert left_in(tmp_path / "downloads") == [f"{FOLDER}/train.bin"]  # verified, and not fetched again


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (
            "cifar100",
            f"mirror {{}}: holds no {FOLDER}.tar.gz nor {FOLDER}/train.bin, itself or in cifar100/; put one there or ",
        ),
        ("svhn", "mirror {}: holds no train_32x32.mat, itself or in svhn/; "),
        ("digits", "dataset digits: kind digits is not downloaded; only cifar10, cifar100, svhn, tinyimagenet are"),
    ],
)
def test_what_a_mirror_lacks_and_what_is_not_downloaded(download, line_of, tmp_path, kind, line):
    assert line_of(download, kind, tmp_path / "mirror").startswith(line.format(tmp_path / "mirror"))


def test_svhn_is_fetched_file_by_file(server, download, monkeypatch):
    files = {"train_32x32.mat": b"a" * 2000, "test_32x32.mat": b"b" * 1000}
    members = tuple(official(*file) for file in files.items())
    monkeypatch.setitem(ENTRIES, "svhn", replace(ENTRIES["svhn"], url=server.url, members=members))
    server.files, server.faults = dict(files), [500]
    listed = download("svhn")
    assert left_in(listed.parent) == ["files.json", "test_32x32.mat", "train_32x32.mat"] and facts(listed)["folder"] == "."
    assert [asked for _, asked in server.requests] == [None, "bytes=500-", None]


def test_tinyimagenet_is_verified_by_its_archive_and_leaves_the_unlabelled_images(tiny, download, line_of, tmp_path, capsys):
    listed = download("tinyimagenet")
    names = [f"tiny-imagenet-200/{name}" for name in ("train/n1/images/a.JPEG", "wnids.txt")]
    assert left_in(listed.parent) == ["files.json", "tiny-imagenet-200.zip", *names]
    assert facts(listed)["verified"] == "archive" and facts(listed)["files"] == []
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "tiny-imagenet-200.zip").write_bytes(tiny[1][:-1] + b"!")
    line = line_of(download, "tinyimagenet", tmp_path / "mirror", out=tmp_path / "new" / "files.json")
    assert line.startswith(f"{tmp_path / 'mirror' / 'tiny-imagenet-200.zip'}: altered, SHA-256 ") and left_in(tmp_path / "new") == []
    capsys.readouterr()
    unpacked(tiny[0], tmp_path / "own" / "tiny-imagenet-200")
    assert facts(download("tinyimagenet", tmp_path / "own"))["verified"] == "nothing"
    said = f"tinyimagenet: {tmp_path / 'own' / 'tiny-imagenet-200'} is used as it is, no checksums of its files are on record\n"
    assert capsys.readouterr().err == said

"""Helpers for tests that make dataset files."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def left_in(folder):
    """Every file beneath a folder."""
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def cifar_records(labels, seed=0):
    """Records with the label bytes `labels` (n, k) and random pixels; the bytes, and the images (n, 3, 32, 32)."""
    labels = np.asarray(labels, np.uint8).reshape(len(labels), -1)
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), np.uint8)
    return b"".join(bytes(row) + bytes(image) for row, image in zip(labels, pixels, strict=True)), pixels.reshape(-1, 3, 32, 32)


def tar(files, mode="w:gz", links=()):
    """The bytes of a tar that holds `files`, bytes by name, and `links`, pairs of name and target."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return buffer.getvalue()


def zipped(files, method=zipfile.ZIP_DEFLATED):
    """The bytes of a zip that holds `files`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def save(kind, path, **content):
    """Arrays in one file; two underscores in a name stand for a group."""
    if kind == "npz":
        with path.open("wb") as file:
            np.savez_compressed(file, **content)
        return
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            file[name.replace("__", "/")] = values


def put(*files):
    """Grey images of 4 x 4 whose upper left pixel tells them apart."""
    for value, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((4, 4), np.uint8)
        pixels[0, 0] = value + 1
        Image.fromarray(pixels).save(file, "PNG")


def fill(root, *folders, count=3):
    put(*(root / folder / name / f"{i}.png" for folder in folders for name in "ab" for i in range(count)))


def of_each(root, ending, make, count=2, **options):
    """`make(i)` for i below `count` in either of two classes."""
    for name in "ab":
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            make(i).save(root / name / f"{i}.{ending}", **options)


def everything(data):
    return torch.cat([data.train.images, data.test.images])

"""Helpers for tests that make dataset files."""

import hashlib
from pathlib import Path

import numpy as np


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

"""Safetensors files with a digest of their content, so that a changed bit is detected before anything is used."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from esp_core.runtime import files
from esp_core.study.provenance import canonical

DIGEST = "digest"


class DamagedError(ValueError):
    """The file is not a safetensors file, or has changed since it was written."""


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write `tensors`, on any device, and `metadata` to `path`, atomically."""
    here = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    files.write(path, save(here, metadata={**metadata, DIGEST: _digest(here, metadata)}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, on the CPU, and the metadata. Raises FileNotFoundError, and DamagedError if they have changed."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, ValueError, TypeError, RuntimeError, KeyError) as error:
        raise DamagedError(str(error)) from None
    if metadata.pop(DIGEST, None) != _digest(tensors, metadata):
        raise DamagedError("its digest does not fit its content")
    return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    sha = hashlib.sha256(canonical(dict(metadata)).encode())
    for name in sorted(tensors):
        sha.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        sha.update(tensors[name].numpy().data)
    return sha.hexdigest()

"""Every random draw comes from a seed that is derived from names, never from the clock or from the order of jobs."""

import hashlib

import torch

from esp_core.study.provenance import canonical


def derive(*names: str | int) -> int:
    """A seed in [0, 2^63) that depends only on `names`, such as (study seed, "experts", "cifar10", 17)."""
    return int.from_bytes(hashlib.sha256(canonical(list(names)).encode()).digest()[:8], "big") >> 1


def generator(*names: str | int) -> torch.Generator:
    """A CPU generator seeded by `derive(*names)`. Draws on the CPU are the same for every device."""
    return torch.Generator().manual_seed(derive(*names))

"""The first lines of a job's log: what it was told to do, by which code, with which packages, and where."""

import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from itertools import pairwise
from typing import Any

from esp_core import __version__, jobspec
from esp_core.errors import UserError
from esp_core.provenance import canonical, digest, module_file, source_digest

PACKAGES = ("torch", "torchvision", "kornia", "numpy")  # what decides about numbers


def heading(stage: str, arguments: Sequence[str]) -> str | None:
    """Of the job of a stage, such as "esp_core.distill", with the command line `arguments`; None where they hold no spec."""
    given = dict(pairwise(arguments))
    try:
        spec = jobspec.read(given["--spec"])
        known = canonical(spec)
    except (KeyError, ValueError, UserError):
        return None
    code = given.get("--code") or source_digest(stage, *_network(stage, spec))
    seed = f", seed {spec['study_seed']}" if "study_seed" in spec else ""
    packages = [f"{name} {version}" for name in PACKAGES if (version := _version(name))]
    versions = ", ".join([f"esp_core {__version__}", f"Python {platform.python_version()}", *packages])
    place = f"{platform.node()}, process {os.getpid()}, {time.strftime('%Y-%m-%d %H:%M:%S %z')}"
    return f"{stage}: spec {digest(known)}, code {code}{seed}\n{versions}; on {place}"


def stage_of(module: str) -> str:
    """The name of a stage's module; `python -m` calls it __main__."""
    own = getattr(sys.modules.get(module), "__spec__", None)
    return own.name if own else module


def _network(stage: str, spec: Any) -> list[str]:
    """The module of the experts' network, which is looked up by name, so that the digest is the one that the shard records."""
    if stage != "esp_core.experts" or "name" not in spec.get("network", {}):
        return []
    name = str(spec["network"]["name"])
    module = name.partition(":")[0] if ":" in name else f"esp_core.networks.{name}"
    return [module] if module_file(module) else []


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""

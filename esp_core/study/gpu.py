"""Whether jobs compute on a GPU, asked without torch: by the Snakefile, which plans jobs, and by `esp_core.planning.plan`."""

import os
import re
import subprocess
import sys
from functools import cache

SECONDS = 30  # that a driver may take to answer


def device_type(device: str, elsewhere: bool = False) -> str:
    """cuda, mps or cpu: what a job whose study says `device` computes on.

    `auto` is what this machine has, as for `devices.pick`; of the nodes of a cluster, `elsewhere`, nothing is known, and they are taken to
    have GPUs. A GPU that is not NVIDIA's or Apple's has to be named in the study: `device: cuda`.
    """
    if device != "auto":
        return device.partition(":")[0]
    if elsewhere or _sees_nvidia(os.environ.get("CUDA_VISIBLE_DEVICES", "0")):
        return "cuda"
    return "mps" if sys.platform == "darwin" else "cpu"


def threads(kind: str) -> int:
    """Threads of a job: beside a GPU they read and check files; without one, single threads train more images than several do."""
    return 1 if kind == "cpu" else 4


@cache
def _sees_nvidia(visible: str) -> bool:
    """Whether nvidia-smi lists the first GPU of CUDA_VISIBLE_DEVICES; CUDA shows none where that one does not exist."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    first = visible.partition(",")[0].strip()
    numbers = re.findall(r"^GPU (\d+):", listed.stdout, flags=re.MULTILINE)
    named = first.startswith(("GPU-", "MIG-")) and f"(UUID: {first}" in listed.stdout
    return listed.returncode == 0 and (first in numbers or named)

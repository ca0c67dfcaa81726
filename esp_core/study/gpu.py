"""Whether jobs run on a GPU, found out without torch: for the Snakefile, which plans jobs, and for `esp_core.planning.plan`."""

import os
import re
import subprocess
import sys
from functools import cache

SECONDS = 30  # in which a driver must answer


def device_type(device: str, elsewhere: bool = False) -> str:
    """cuda, mps or cpu: the device of a job whose study says `device`.

    `auto` means this machine's, as in `devices.pick`. The nodes of a cluster (`elsewhere`) cannot be checked and are assumed to have GPUs.
    A GPU that is not from NVIDIA or Apple must be named in the study: `device: cuda`.
    """
    if device != "auto":
        return device.partition(":")[0]
    if elsewhere or _sees_nvidia(os.environ.get("CUDA_VISIBLE_DEVICES", "0")):
        return "cuda"
    return "mps" if sys.platform == "darwin" else "cpu"


def threads(kind: str) -> int:
    """Threads of a job: beside a GPU several, to read and check files; without one a single thread, which trains more images in all."""
    return 1 if kind == "cpu" else 4


@cache
def _sees_nvidia(visible: str) -> bool:
    """Whether nvidia-smi lists the first GPU of CUDA_VISIBLE_DEVICES; if it does not exist, CUDA shows none."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    first = visible.partition(",")[0].strip()
    numbers = re.findall(r"^GPU (\d+):", listed.stdout, flags=re.MULTILINE)
    named = first.startswith(("GPU-", "MIG-")) and f"(UUID: {first}" in listed.stdout
    return listed.returncode == 0 and (first in numbers or named)

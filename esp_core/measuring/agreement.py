"""Whether a step of distillation is on this device what it is on a processor: the gradient of each method's stored numbers, on both.

    python -m esp_core.measuring.agreement [--methods esp dm …] [--device auto]

The same set, networks, images of noise and augmentations; on the device in micro-batches, as it runs there, on the processor with one
graph of the complete set. Printed are the relative difference, as norms, and the cosine. Devices that multiply in TF32 or bfloat16 differ
by some thousandths; the projection term has the sign of every parameter's gradient, and so differs by more than the others.
"""

import argparse
import platform
from typing import Any

import torch
from torch import Tensor

from esp_core import devices, methods
from esp_core.errors import command
from esp_core.footprint import Bench

NETWORK = {"name": "convnet3", "width": 32, "depth": 3}
SHAPE = (3, 32, 10)  # channels, size, classes
SMALLER = {"real_batch": 16}
MICRO_BATCH = 24


def gradient(recipe: dict[str, Any], device: torch.device, micro_batch: int | None) -> Tensor:
    """The gradient (n,) of all stored numbers after one outer step at IPC 1, float64 on the CPU."""
    bench = Bench({**recipe, **SMALLER}, NETWORK, 1, SHAPE, device)
    bench.run(1, micro_batch if bench.walks else None)
    return torch.cat([t.grad.detach().flatten().double().cpu() for t in bench.synthetic.tensors.values() if t.grad is not None])


def row(method: str, device: torch.device) -> tuple[float, float]:
    """(relative difference, cosine) of the device's gradient and the processor's."""
    recipe = methods.recipe(method, "cifar10", 1)
    here, there = gradient(recipe, device, MICRO_BATCH), gradient(recipe, torch.device("cpu"), None)
    return float((here - there).norm() / there.norm()), float(torch.cosine_similarity(here, there, dim=0))


@command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m esp_core.measuring.agreement", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--methods", nargs="+", choices=methods.names(), default=["esp", "dm", "dsa", "mtt"], help="named recipes")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = devices.pick(arguments.device)
    machine = devices.describe(device)
    print(
        f"# {machine['device']} against a processor, torch {machine['torch']}, Python {platform.python_version()}; ConvNet-3 of width 32,"
    )
    print("# IPC 1, 10 classes of 3x32x32, one step each\n")
    print("| method | relative difference of the gradient | cosine |\n| --- | --- | --- |")
    for method in arguments.methods:
        difference, cosine = row(method, device)
        print(f"| {method} | {difference:.1e} | {cosine:.6f} |", flush=True)


if __name__ == "__main__":
    main()

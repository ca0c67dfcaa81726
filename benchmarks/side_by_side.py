"""Evaluation: five seeds side by side in stacked networks against one after another, per network.

    python -m benchmarks.side_by_side [--networks convnet3 resnet10 densenet121] [--ipc 1 10] [--epochs 3] [--seeds 5] [--repeats 3]

Networks are trained by the protocol `dsa` on images of noise, IPC a class, both ways in turns, with the same draws. Seconds are of training
alone. A network with dropout cannot be stacked; EfficientNetV2-S is one. The last column is the largest difference of two losses of the
curves: what another order of summation makes of the same arithmetic.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from esp_core import devices, methods, networks, seeds, side_by_side, training
from esp_core.datasets import Dataset, Split

NARROW = {  # settings for a processor, on which the whole networks take minutes
    "convnet3": {"width": 32},
    "resnet10": {"width": 8},
    "densenet121": {"growth": 4, "blocks": [2, 2, 2, 2]},
}
Curves = list[list[float]]


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NARROW))
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--size", type=int, default=32, help="side of an image, pixels")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--whole", action="store_true", help="the networks as the paper has them; without it, and on a processor, narrow")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = devices.pick(arguments.device)
    devices.reuse_memory()
    machine = devices.describe(device)
    print(f"# {machine['device']}, {machine['threads']} threads, torch {machine['torch']}, Python {platform.python_version()}")
    print(f"# {'whole' if arguments.whole else 'narrow'} networks, {arguments.seeds} seeds, {arguments.epochs} epochs, batch 256")
    print(f"# {arguments.classes} classes of 3x{arguments.size}x{arguments.size}; medians (min to max) of n = {arguments.repeats}\n")
    titles = ("network", "IPC", "one after another, ms a seed and epoch", "side by side", "speed-up", "largest difference of losses")
    print(f"| {' | '.join(titles)} |\n{'| --- ' * len(titles)}|")
    for name in arguments.networks:
        for ipc in arguments.ipc:
            print(row(arguments, name, ipc, device), flush=True)


def row(arguments: argparse.Namespace, name: str, ipc: int, device: torch.device) -> str:
    """One network and IPC, both ways in turns."""
    images = noise(ipc, arguments.classes, arguments.size, device)
    settings = training.protocol(methods.protocol("dsa", {"epochs": arguments.epochs}, flip=True))
    own = {} if arguments.whole else NARROW.get(name, {})
    ways: dict[str, Callable[[list[nn.Module], list[torch.Generator]], Curves]] = {
        "single": lambda nets, draws: [training.train(n, images, settings, g) for n, g in zip(nets, draws, strict=True)],
        "stacked": lambda nets, draws: side_by_side.train(nets, images, settings, draws),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    curves: dict[str, Curves] = {}
    for repeat in range(arguments.repeats + 1):
        for way, train in ways.items():
            nets = [networks.build(name, 3, arguments.size, arguments.classes, seed=s, **own).to(device) for s in range(arguments.seeds)]
            draws = [seeds.generator("benchmark", s) for s in range(arguments.seeds)]
            devices.synchronise(device)
            start = time.perf_counter()
            curves[way] = train(nets, draws)
            devices.synchronise(device)
            if repeat:  # the first warms up
                times[way].append(1000 * (time.perf_counter() - start) / arguments.seeds / arguments.epochs)
    ratio = statistics.median(times["single"]) / statistics.median(times["stacked"])
    cells = [f"{statistics.median(own):.1f} ({min(own):.1f} to {max(own):.1f})" for own in times.values()]
    return f"| {name} | {ipc} | {' | '.join(cells)} | {ratio:.2f} | {max(differences(curves)):.1e} |"


def differences(curves: dict[str, Curves]) -> Iterator[float]:
    """Between the losses of the two ways, epoch by epoch and seed by seed."""
    for one, other in zip(curves["single"], curves["stacked"], strict=True):
        yield from (abs(a - b) for a, b in zip(one, other, strict=True))


def noise(ipc: int, classes: int, size: int, device: torch.device) -> training.Images:
    """A condensed set of noise, `ipc` images a class."""
    generator = seeds.generator("noise", ipc)
    labels = torch.arange(classes).repeat_interleave(ipc).to(device)
    split = Split(torch.rand((len(labels), 3, size, size), generator=generator).to(device), labels)
    middle = torch.full((3,), 0.5, device=device)
    data: Any = Dataset("noise", split, split, tuple(map(str, range(classes))), middle, middle / 2, "benchmark")
    return training.Images(split.images, split.labels, data)


if __name__ == "__main__":
    main()

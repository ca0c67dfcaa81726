"""What the trajectory store's encoding costs: angles between segments as stored and as they were, of one expert trained here.

    python -m benchmarks.encoding [--images 1280] [--epochs 50] [--width 128]

Trains a ConvNet-3 by MTT's recipe, on CIFAR-10's images where ESP_REAL_DATA names a folder with cifar-10-batches-bin, else on noise,
and keeps the float32 snapshots. For all segments of T = 5 it prints the largest principal angle between their span and the
span of the same snapshots as the store gives them, and, beside it, as float16 weights would.
"""

import argparse
import statistics
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import subspace_angles
from torch import Tensor

from benchmarks.experts import cifar10, folder, recipe_of
from benchmarks.reading import SEGMENT
from esp_core import networks
from esp_core.runtime import devices, seeds
from esp_core.training import engine
from esp_core.trajectories import store, subspace
from esp_core.trajectories.reader import decode
from esp_core.trajectories.trainer import Trainer


def main() -> None:
    """Train, encode, compare, and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--images", type=int, default=1280, help="training images, whole batches of 256")
    parser.add_argument("--epochs", type=int, default=50, help="epochs, and snapshots after the first")
    parser.add_argument("--width", type=int, default=128, help="channels of ConvNet-3")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--precision", choices=engine.PRECISIONS, default="auto")
    arguments = parser.parse_args()
    exact = trained(arguments)
    words = "real CIFAR-10 images" if folder() else "NOISE, not images: set ESP_REAL_DATA"
    print(f"# torch {torch.__version__}, {devices.describe(devices.pick())['device']}; {words}; ConvNet-3 of width {arguments.width},")
    print(f"# {arguments.epochs} epochs of {arguments.images // 256} steps, lr {arguments.lr}; all segments of T = {SEGMENT}\n")
    print("| encoding | largest principal angle, degrees | median |\n| --- | --- | --- |")
    ours, halves = zip(*angles(exact), strict=True)
    for name, column in (("ours, float16 steps", ours), ("float16 weights", halves)):
        print(f"| {name} | {max(column):.4f} | {statistics.median(column):.4f} |")


def trained(arguments: argparse.Namespace) -> NDArray[np.float32]:
    """The float32 snapshots (epochs + 1, P) of one expert."""
    devices.reuse_memory()
    data, recipe = cifar10(arguments.images), recipe_of(arguments)
    network = networks.build("convnet3", 3, 32, 10, width=arguments.width, seed=0)
    trainer = Trainer(network, recipe, data)
    snapshots = [trainer.state()["weights"]]
    for epoch in range(recipe.epochs):
        for _ in trainer.steps(seeds.generator("benchmark", epoch)):
            pass
        snapshots.append(trainer.state()["weights"])
    return np.stack(snapshots)


def angles(exact: NDArray[np.float32]) -> Iterator[tuple[float, float]]:
    """For every segment: the largest angle in degrees, as stored and as float16 weights."""
    steps, scale = store.encode(exact)
    for start in range(len(exact) - SEGMENT):
        segment = torch.from_numpy(exact[start : start + SEGMENT + 1])
        stored = decode(torch.from_numpy(steps[: start + SEGMENT + 1]), start, scale)
        yield between(segment, stored), between(segment, segment.half().float())


def between(one: Tensor, other: Tensor) -> float:
    """Largest principal angle, in degrees, between the spans of two segments (T + 1, P)."""
    bases = (subspace.basis(segment).double().numpy() for segment in (one, other))
    return float(np.degrees(subspace_angles(*bases).max()))


if __name__ == "__main__":
    main()

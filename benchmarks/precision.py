"""Whether accuracy moves with the precision of an evaluation: float32 beside bfloat16, paired by seed, on real CIFAR-10 images.

    ESP_REAL_DATA=FOLDER python -m benchmarks.precision [--network convnet3] [--size 16] [--width 32] [--ipc 50] [--epochs 200] [--seeds 10]

The condensed set is `--ipc` random training images a class, other ones each seed; the network is trained by the protocol `dsa` with the
same weights, order and augmentations both ways and tested on all 10,000 test images. `--size` 16 averages 2x2 pixels.
"""

import argparse
import platform
import statistics
import sys
import time
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from scipy import stats

from benchmarks.experts import cifar10, folder
from esp_core import networks
from esp_core.datasets import Dataset, Split
from esp_core.datasets.normalisation import Normalisation
from esp_core.runtime import devices, seeds
from esp_core.study import methods
from esp_core.training import engine, epoch, protocol
from esp_core.training.compile_policy import Work

WAYS = {"float32 eager": ("float32", "never"), "bfloat16": ("bfloat16", "auto")}
TRAIN = 50_000


def main() -> None:
    """Measure, a line a seed, and print the differences with their 95 % t-interval."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--network", default="convnet3")
    parser.add_argument("--width", type=int, default=32, help="of ConvNet-3 and ResNet-10")
    parser.add_argument("--size", type=int, choices=[16, 32], default=16, help="side of an image, pixels")
    parser.add_argument("--ipc", type=int, default=50, help="random images a class")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    devices.reuse_memory()
    data = shrunk(cifar10(TRAIN), arguments.size)
    machine = devices.describe(data.train.images.device)
    print(f"# {machine['device']}, {machine['threads']} threads, torch {machine['torch']}, Python {platform.python_version()}")
    print(
        f"# {'real CIFAR-10 images' if folder() else 'NOISE, not images: set ESP_REAL_DATA'}, {arguments.size}x{arguments.size}, ", end=""
    )
    print(f"{arguments.ipc} a class; {arguments.network} of width {arguments.width}, {arguments.epochs} epochs\n")
    print(f"| seed | {' | '.join(f'{way}, %' for way in WAYS)} | difference |\n| --- | --- | --- | --- |")
    test = epoch.Images(data.test.images, data.test.labels, data)
    runs = {way: Runs(arguments, data, *wish) for way, wish in WAYS.items()}
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in range(arguments.seeds):
        for way, run in runs.items():
            found[way].append(run.accuracy(seed, test))
        one, other = (values[-1] for values in found.values())
        print(f"| {seed} | {one:.2f} | {other:.2f} | {other - one:+.2f} |", flush=True)
    print(summary(*found.values()))
    seconds = ", ".join(f"{way} {run.seconds:.0f}" for way, run in runs.items())
    print(f"CPU-seconds of training and testing: {seconds}; bfloat16 was {runs['bfloat16'].words()}", file=sys.stderr)


def summary(ours: list[float], theirs: list[float]) -> str:
    """Means, and the mean of `theirs` - `ours` with its 95 % t-interval."""
    differences = [b - a for a, b in zip(ours, theirs, strict=True)]
    n, mean = len(differences), statistics.mean(differences)
    half = stats.t.ppf(0.975, n - 1) * statistics.stdev(differences) / n**0.5 if n > 1 else float("nan")
    return f"| mean | {statistics.mean(ours):.2f} | {statistics.mean(theirs):.2f} | {mean:+.2f} ± {half:.2f} (n = {n}) |"


class Runs:
    """Trainings in one engine, seed after seed."""

    def __init__(self, arguments: argparse.Namespace, data: Dataset, precision: str, compile_: str):
        self.arguments, self.data, self.seconds = arguments, data, 0.0
        self.protocol = protocol.Protocol.from_spec(methods.protocol("dsa", {"epochs": arguments.epochs}))
        once = epoch.sizes(10 * arguments.ipc, self.protocol.batch, self.protocol.epochs)
        trained = {size: arguments.seeds * n for size, n in once.items()}
        network, sample = self._network(0), self._images(0).sample()
        plan = engine.plan(network, sample, Work(trained, arguments.seeds * len(data.test)), precision, compile_)
        self.engine = engine.Engine(network, plan, sample)

    def accuracy(self, seed: int, test: epoch.Images) -> float:
        """Percent of the test images after a training from `seed`."""
        start = time.process_time()
        self.engine.load(self._network(seed))
        generator = seeds.generator("precision", seed, "training")
        torch.manual_seed(seed)
        protocol.train(self.engine.network, self._images(seed), self.protocol, generator, self.engine)
        found = epoch.accuracy(self.engine.network, test, forward=self.engine)
        self.seconds += time.process_time() - start
        return found

    def words(self) -> str:
        """How it was trained."""
        return ", ".join(f"{key} {value}" for key, value in self.engine.plan.record().items())

    def _images(self, seed: int) -> epoch.Images:
        generator, labels = seeds.generator("precision", seed, "images"), self.data.train.labels
        members = [(labels == label).nonzero().squeeze(1) for label in range(10)]
        chosen = torch.cat([m[torch.randperm(len(m), generator=generator)[: self.arguments.ipc]] for m in members])
        return epoch.Images(self.data.train.images[chosen], labels[chosen], self.data)

    def _network(self, seed: int) -> torch.nn.Module:
        own: dict[str, Any] = {"width": self.arguments.width} if self.arguments.network in ("convnet3", "resnet10") else {}
        return networks.build(self.arguments.network, 3, self.arguments.size, 10, seed=seed, **own).to(self.data.train.images.device)


def shrunk(data: Dataset, size: int) -> Dataset:
    """`data` with its images averaged to `size` pixels, float in [0, 1], and normalised by what they then have."""

    def small(split: Split) -> Split:
        parts = split.images.split(1000)
        return Split(torch.cat([F.adaptive_avg_pool2d(part.float() / 255, size) for part in parts]), split.labels)

    train, test = small(data.train), small(data.test)
    of = Normalisation(train.images.mean((0, 2, 3)), train.images.std((0, 2, 3), correction=0))
    return replace(data, train=train, test=test, normalisation=of)


if __name__ == "__main__":
    main()

"""Evaluation: training as `evaluation.precision` and `compile` choose by themselves beside plain eager float32, per network.

    python -m benchmarks.evaluation [--networks convnet3 resnet10] [--images 800] [--epochs 1] [--repeats 3]

Networks are trained by the protocol `dsa` on images of noise, both ways in turns with the same draws, one thread by default: augmentation,
optimiser and the odd last batch (32 of 800 images) included. The engine plans for a whole job, `--seeds` trainings of `--job` epochs each
and their tests on 10,000 images; compilation, once a job, is a column of its own, and is in the CPU-hours of a job. Those count the
training of all seeds at the measured rates. On a GPU, seconds are those of the wall.
"""

import argparse
import platform
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from esp_core import networks
from esp_core.datasets import Dataset, Split
from esp_core.datasets.normalisation import Normalisation
from esp_core.runtime import devices, seeds
from esp_core.study import methods
from esp_core.training import engine, epoch, protocol
from esp_core.training.compile_policy import Work

NETWORKS = ("convnet3", "resnet10", "densenet121", "efficientnetv2s")
TESTED = 10_000  # images of CIFAR-10's test set
WAYS = ("plain float32", "auto")
NARROW = {"convnet3": {"width": 32}, "resnet10": {"width": 8}, "densenet121": {"growth": 4, "blocks": [2, 2, 2, 2]}}


@dataclass
class Way:
    """One way of training a network, and what was measured of it."""

    network: nn.Module
    engine: engine.Engine
    compilation: float
    rates: list[float] = field(default_factory=list)  # images a CPU-second


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--images", type=int, default=800, help="of the condensed set, ten classes; ESP's at IPC 1 are 800")
    parser.add_argument("--size", type=int, default=32, help="side of an image, pixels")
    parser.add_argument("--epochs", type=int, default=1, help="that are timed, each repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5, help="trainings of a job, for the plan and its CPU-hours")
    parser.add_argument("--job", type=int, default=1000, help="epochs of each training of a job")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--narrow", action="store_true", help="narrow networks: shows in seconds that it runs")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = devices.pick(arguments.device)
    devices.reuse_memory()
    machine = devices.describe(device)
    print(f"# {machine['device']}, {machine['threads']} threads, torch {machine['torch']}, Python {platform.python_version()}")
    print(
        f"# {arguments.images} images of 3x{arguments.size}x{arguments.size}, batch 256; medians (min to max) of n = {arguments.repeats};"
    )
    print(f"# a job: {arguments.seeds} seeds of {arguments.job} epochs\n")
    titles = [
        "network",
        *(f"{way}, images/CPU-s" for way in WAYS),
        "times",
        "auto is",
        "compilation, s",
        "CPU-hours of a job, plain and auto",
    ]
    print(f"| {' | '.join(titles)} |\n{'| --- ' * len(titles)}|")
    for name in arguments.networks:
        print(row(arguments, name, device), flush=True)


def row(arguments: argparse.Namespace, name: str, device: torch.device) -> str:
    """One network, both ways in turns."""
    images = noise(arguments.images // 10, 10, arguments.size, device)
    ways = [made(arguments, name, images, way) for way in WAYS]
    for repeat in range(arguments.repeats + 1):
        for way in ways:
            settings = protocol.Protocol.from_spec(methods.protocol("dsa", {"epochs": arguments.epochs if repeat else 1}))
            seconds = timed(way, images, settings, seeds.generator("benchmark", repeat), device)
            if repeat:  # the first warms up
                way.rates.append(arguments.images * arguments.epochs / seconds)
    medians = [statistics.median(way.rates) for way in ways]
    hours = [
        (arguments.seeds * arguments.job * arguments.images / rate + way.compilation) / 3600
        for rate, way in zip(medians, ways, strict=True)
    ]
    auto = ways[1]
    plan = auto.engine.plan
    words = [plan.precision, f"compiled {' '.join(map(str, plan.compiled))}" if plan.compiled else "eager"]
    words += ["channels_last"] * plan.channels_last + ["tiled"] * plan.tiled
    cells = [f"{median:.1f} ({min(way.rates):.1f} to {max(way.rates):.1f})" for median, way in zip(medians, ways, strict=True)]
    cells += [f"{medians[1] / medians[0]:.2f}", ", ".join(words), f"{auto.compilation:.0f}", f"{hours[0]:.2f}, {hours[1]:.2f}"]
    return f"| {name} | {' | '.join(cells)} |"


def made(arguments: argparse.Namespace, name: str, images: epoch.Images, way: str) -> Way:
    """A network and its engine, compiled where the plan for a whole job says so."""
    own: dict[str, Any] = NARROW.get(name, {}) if arguments.narrow else {}
    network = networks.build(name, 3, arguments.size, 10, seed=0, **own).to(images.labels.device)
    whole = protocol.Protocol.from_spec(methods.protocol("dsa", {"epochs": arguments.job}))
    trained = {size: arguments.seeds * n for size, n in epoch.sizes(len(images), whole.batch, whole.epochs).items()}
    work = Work(trained, arguments.seeds * TESTED)
    plan = engine.plan(network, images.sample(), work, "auto") if way == "auto" else engine.Plan()
    start = time.perf_counter()
    ready = engine.Engine(network, plan, images.sample())
    return Way(network, ready, time.perf_counter() - start if plan.compiled or plan.tests else 0.0)


def noise(ipc: int, classes: int, size: int, device: torch.device) -> epoch.Images:
    """A condensed set of noise, `ipc` images a class."""
    labels = torch.arange(classes).repeat_interleave(ipc).to(device)
    split = Split(torch.rand((len(labels), 3, size, size), generator=seeds.generator("noise", ipc)).to(device), labels)
    middle = torch.full((3,), 0.5, device=device)
    data = Dataset("noise", split, split, tuple(map(str, range(classes))), Normalisation(middle, middle / 2), "benchmark")
    return epoch.Images(split.images, split.labels, data)


def timed(way: Way, images: epoch.Images, settings: protocol.Protocol, generator: torch.Generator, device: torch.device) -> float:
    """CPU-seconds of a training, on a GPU its seconds."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    devices.synchronise(device)
    start = clock()
    protocol.train(way.network, images, settings, generator, way.engine)
    devices.synchronise(device)
    return clock() - start


if __name__ == "__main__":
    main()

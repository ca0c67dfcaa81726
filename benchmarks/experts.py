"""Training experts: ours beside the reference recipe written plainly. One table, on this device, in one run.

    python -m benchmarks.experts [--images 2560] [--epochs 3] [--rounds 3] [--width 128] [--precision auto] [--quick]

Both train the same ConvNet-3 on the same batches with the same augmentations, one after the other in processes of their own, in turns.
"plain" is MTT's recipe as one would write it down: a DataLoader over float32 images, eager float32, a test pass after every epoch,
lists of tensors, torch.save. "ours" is the engine of `esp_core.stages.experts`. CPU-seconds are those of the whole process, in the training
loop alone; compilation, once a job, is a column of its own. Images are CIFAR-10's where ESP_REAL_DATA names a folder with
cifar-10-batches-bin, else noise, in which case there is no accuracy to speak of. `--quick` shows in under a minute that it runs.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from esp_core import networks
from esp_core.augment import dsa
from esp_core.datasets import Dataset, Split
from esp_core.datasets.normalisation import Normalisation
from esp_core.runtime import devices, seeds
from esp_core.training import engine
from esp_core.training.compile_policy import Work
from esp_core.trajectories.trainer import Recipe, Trainer

EXPERT_IMAGES, EXPERT_EPOCHS, EXPERT_OPERATIONS = 50_000, 50, 0.76e15  # one of the paper's CIFAR-10 experts
RECORD = 3073  # bytes of an image in CIFAR-10's binary files: a label, then 3 x 32 x 32


def main() -> None:
    """Run all of it, or one side in a process of its own."""
    arguments = parse()
    if arguments.side:
        data = cifar10(arguments.images)
        print(json.dumps((plain if arguments.side == "plain" else ours)(data, arguments)))
        return
    device = devices.pick()
    machine = devices.describe(device)
    print(
        f"# {machine['device']} ({processor()}), {machine['threads']} threads, torch {machine['torch']}, Python {platform.python_version()}"
    )
    print("# real CIFAR-10 images" if folder() else "# NOISE, not images: set ESP_REAL_DATA", end="; ")
    print(f"ConvNet-3 of width {arguments.width}, {arguments.images} images x {arguments.epochs} epochs, {arguments.rounds} rounds")
    training(arguments, device)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--images", type=int, default=2560, help="training images, whole batches of 256; a fifth as many are tested")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side")
    parser.add_argument("--width", type=int, default=128, help="channels of ConvNet-3")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--precision", choices=engine.PRECISIONS, default="auto", help="of ours; auto takes bfloat16 where it is fast")
    parser.add_argument("--quick", action="store_true", help="width 16, 600 images, one epoch, one round, nothing compiled")
    parser.add_argument("--side", choices=["plain", "ours"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.images, arguments.epochs, arguments.rounds, arguments.width = 600, 1, 1, 16
    return arguments


def plain(data: Dataset, arguments: argparse.Namespace) -> dict[str, Any]:
    """The reference recipe."""
    device, recipe, network = data.train.images.device, recipe_of(arguments), network_of(arguments)
    images, test = data.normalise(data.train.images), data.normalise(data.test.images)
    network.to(device)
    optimiser = torch.optim.SGD(network.parameters(), lr=recipe.lr)
    cross_entropy(network(images[: recipe.batch]), data.train.labels[: recipe.batch]).backward()  # warms up
    trajectory, losses, clock = [snapshot(network)], [], Clock()
    for epoch in range(recipe.epochs):
        generator = seeds.generator("benchmark", epoch)
        order = torch.randperm(len(images), generator=generator).tolist()
        with clock("train"):
            for x, y in DataLoader(TensorDataset(images, data.train.labels), batch_size=recipe.batch, sampler=order):
                draw = dsa.draw(recipe.augment, len(x), generator, same_operation=True)
                loss = cross_entropy(network(draw(x)), y)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.item())
            trajectory.append(snapshot(network))
        with clock("test"), torch.no_grad():
            right = sum(int((network(x).argmax(1) == y).sum()) for x, y in zip(test.split(256), data.test.labels.split(256), strict=True))
    return clock.report() | {"losses": losses, "accuracy": 100 * right / len(test), "once": 0.0, "engine": "eager float32"}


def ours(data: Dataset, arguments: argparse.Namespace) -> dict[str, Any]:
    """The engine of this package."""
    device, recipe, network = data.train.images.device, recipe_of(arguments), network_of(arguments)
    devices.reuse_memory()
    network.to(device)
    work = Work({recipe.batch: len(data.train) if arguments.quick else EXPERT_IMAGES * EXPERT_EPOCHS})
    chosen = engine.plan(network, data.normalise(data.train.images[:1]), work, recipe.precision)
    start = time.perf_counter()
    trainer = Trainer(network, recipe, data, chosen)  # compiles
    once = time.perf_counter() - start
    trajectory, losses, clock = [trainer.state()], [], Clock()
    for epoch in range(recipe.epochs):
        with clock("train"):
            losses += [loss for loss, _ in trainer.steps(seeds.generator("benchmark", epoch))]
            trajectory.append(trainer.state())
    with clock("test"):
        accuracy = trainer.accuracy()
    words = chosen.precision + " compiled" * bool(trainer.engine.plan.compiled)
    return clock.report() | {"losses": [float(x) for x in losses], "accuracy": accuracy, "once": once, "engine": words}


class Clock:
    """Wall and CPU seconds of the parts of a run."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}

    def __call__(self, part: str) -> "Clock":
        self.part = self.spent.setdefault(part, [0.0, 0.0])
        return self

    def __enter__(self) -> None:
        self.start = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.part[0] += time.perf_counter() - self.start[0]
        self.part[1] += time.process_time() - self.start[1]

    def report(self) -> dict[str, Any]:
        """Seconds on the wall and of CPU, of each part."""
        return {f"{part}_{unit}": value for part, values in self.spent.items() for unit, value in zip(("wall", "cpu"), values, strict=True)}


def training(arguments: argparse.Namespace, device: torch.device) -> None:
    """Run the two sides in turns and print the table, the ratios and the arithmetic floor."""
    runs: dict[str, list[dict[str, Any]]] = {"plain": [], "ours": []}
    for _ in range(arguments.rounds):
        for side, done in runs.items():
            done.append(in_process(side, arguments))
    rates = table(runs, arguments.images * arguments.epochs)
    ratio = [ours / plain for ours, plain in zip(rates["ours"], rates["plain"], strict=True)]
    print(f"\nours / plain, medians of {arguments.rounds}: {ratio[0]:.2f} images/CPU-s, {ratio[1]:.2f} images/s")
    whole = {side: as_expert(done, arguments, side) for side, done in runs.items()}
    print(f"with the test passes of {EXPERT_EPOCHS} epochs (plain: each epoch, ours: the last): {whole['plain'] / whole['ours']:.2f}")
    pairs = list(zip(runs["ours"][0]["losses"][:20], runs["plain"][0]["losses"][:20], strict=True))
    furthest = max(abs(a / b - 1) for a, b in pairs)
    print(f"loss of the first {len(pairs)} steps, ours against plain: largest relative difference {furthest:.1e}")
    rate = matmul_rate(device)
    print(f"floor at width 128: {EXPERT_OPERATIONS / rate:.0f} s an expert, 0.76 PFLOP at {rate / 1e9:.0f} GFLOP/s of float32 matmul;")
    print(f"at its images/s ours takes {EXPERT_IMAGES * EXPERT_EPOCHS / rates['ours'][1]:.0f} s an expert of width {arguments.width}")


def table(runs: dict[str, list[dict[str, Any]]], images: int) -> dict[str, tuple[float, float]]:
    """Print a row a side; return the medians of images/CPU-s and images/s."""
    titles = ("", "engine", "images/CPU-s, each round", "images/s, each round", "accuracy %", "compilation, s")
    print(f"\n| {' | '.join(titles)} |\n{'| --- ' * len(titles)}|")
    rates = {}
    for side, done in runs.items():
        cpu, wall = ([images / run[f"train_{unit}"] for run in done] for unit in ("cpu", "wall"))
        rates[side] = statistics.median(cpu), statistics.median(wall)
        columns = (
            numbers(cpu, 1),
            numbers(wall, 1),
            numbers([run["accuracy"] for run in done], 2),
            numbers([run["once"] for run in done], 1),
        )
        print(f"| {side} | {done[0]['engine']} | {' | '.join(columns)} |")
    return rates


def as_expert(runs: list[dict[str, Any]], arguments: argparse.Namespace, side: str) -> float:
    """CPU-seconds of a whole expert, from the measured parts: its epochs, and a test pass after each of them or after the last."""
    train = statistics.median(run["train_cpu"] for run in runs) / arguments.epochs
    test = statistics.median(run["test_cpu"] for run in runs) / (arguments.epochs if side == "plain" else 1)
    return float(EXPERT_EPOCHS * train + (EXPERT_EPOCHS if side == "plain" else 1) * test)


def in_process(side: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One side in a process of its own, since settings of memory and of torch are a process's."""
    options = [f"--{key}={getattr(arguments, key)}" for key in ("images", "epochs", "width", "lr", "precision")]
    options += ["--quick"] * arguments.quick
    command = [sys.executable, "-m", "benchmarks.experts", "--side", side, *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[1])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """The paper's recipe, shortened."""
    return Recipe(epochs=arguments.epochs, lr=arguments.lr, precision=arguments.precision)


def network_of(arguments: argparse.Namespace) -> nn.Module:
    """The same initial weights for both sides."""
    return networks.build("convnet3", 3, 32, 10, width=arguments.width, seed=0)


def snapshot(network: nn.Module) -> list[Tensor]:
    """A list of tensors, copied: without the clone all snapshots of a CPU run are one."""
    return [p.detach().clone().cpu() for p in network.parameters()]


def folder() -> Path | None:
    """Where CIFAR-10's binary files are, if anywhere."""
    path = Path(os.environ.get("ESP_REAL_DATA", "")) / "cifar-10-batches-bin"
    return path if (path / "data_batch_1.bin").is_file() else None


def cifar10(images: int) -> Dataset:
    """The first `images` training images and a fifth as many test images; noise where there are none."""
    device = devices.pick()
    train, test = (read(name, count).to(device) for name, count in (("data_batch_", images), ("test_batch", max(images // 5, 100))))
    first, second = (Split(rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].long()) for rows in (train, test))
    scaled = first.images.float() / 255
    mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3), correction=0)
    return Dataset("cifar10", first, second, tuple(map(str, range(10))), Normalisation(mean, std), "benchmark")


def read(name: str, count: int) -> Tensor:
    """Rows (count, 3073) uint8 of the files whose names begin so."""
    if place := folder():
        parts = [np.fromfile(file, np.uint8) for file in sorted(place.glob(f"{name}*.bin"))]
        return torch.from_numpy(np.concatenate(parts).reshape(-1, RECORD)[:count].copy())
    noise = torch.randint(0, 256, (count, RECORD), generator=seeds.generator("noise", name), dtype=torch.uint8)
    noise[:, 0] %= 10
    return noise


def matmul_rate(device: torch.device) -> float:
    """Floating-point operations a second in float32 products of the size of a convolution, of one process."""
    a, b = torch.randn(4096, 1152, device=device), torch.randn(1152, 1024, device=device)
    a @ b
    devices.synchronise(device)
    start = time.perf_counter()
    for _ in range(20):
        a @ b
    devices.synchronise(device)
    return 20 * 2 * a.numel() * b.shape[1] / (time.perf_counter() - start)


def processor() -> str:
    """The processor's name, as Linux tells it."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.is_file()
        else []
    )
    return names[0] if names else platform.machine()


def numbers(values: list[float], digits: int) -> str:
    """A list of numbers for a table."""
    return ", ".join(f"{value:.{digits}f}" for value in values)


if __name__ == "__main__":
    main()

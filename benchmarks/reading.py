"""The store of experts: bytes an expert and the time to read a random segment, beside files of torch.save. One table, in one run.

    python -m benchmarks.reading [--experts 10] [--reads 200]

"plain" is what MTT's recipe leaves: lists of tensors by torch.save, ten experts a file, read as a whole for one segment. Snapshots are
random walks of ConvNet-3's shape: what they hold changes neither bytes nor time. Reads are warm, from the system's page cache, and those
of ours take a random expert and a random start. With opening, the digest of all that is stored of the expert is checked as well.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esp_core import networks
from esp_core.networks.flat import FlatNetwork
from esp_core.runtime import devices
from esp_core.trajectories import Trajectories, manifest, store

EPOCHS = 50
SNAPSHOTS, SEGMENT, SHORT = EPOCHS + 1, 5, 25


def main() -> None:
    """Write the stores, measure and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--experts", type=int, default=10, help="experts in one file")
    parser.add_argument("--reads", type=int, default=200)
    parser.add_argument("--width", type=int, default=128, help="channels of ConvNet-3")
    arguments = parser.parse_args()
    devices.reuse_memory()
    layout = [(name, list(shape)) for name, shape in FlatNetwork(networks.build("convnet3", 3, 32, 10, width=arguments.width)).layout]
    machine = devices.describe(torch.device("cpu"))
    print(f"# {machine['device']}, {machine['threads']} threads, torch {machine['torch']}, Python {platform.python_version()}")
    print(f"# ConvNet-3 of {sum(sizes_of(layout)):,} values; {arguments.experts} experts a file")
    print(f"# T = {SEGMENT}; median (p90) of n = {arguments.reads}\n")
    titles = ("store", "bytes an expert", "of plain", "ms for a segment, with opening", "opened before")
    print(f"| {' | '.join(titles)} |\n{'| --- ' * len(titles)}|")
    with tempfile.TemporaryDirectory() as name:
        for line in rows(Path(name), layout, arguments.experts, arguments.reads):
            print(line, flush=True)


def rows(folder: Path, layout: store.Layout, experts: int, reads: int) -> list[str]:
    """A line a store."""
    random = np.random.default_rng(0)
    walks = [walk(random, layout) for _ in range(experts)]
    plain, one, whole, short = (folder / file for file in ("plain.pt", "one.pt", "whole.h5", "short.h5"))
    lists = [[[part.clone() for part in torch.from_numpy(row).split(sizes_of(layout))] for row in snapshots] for snapshots in walks]
    torch.save(lists, plain)
    torch.save(lists[0], one)
    stored(whole, layout, walks)
    stored(short, layout, [snapshots[:SHORT] for snapshots in walks])
    base = plain.stat().st_size / experts
    lines = []
    for title, path, count in ((f"plain: torch.save, {experts} a file", plain, experts), ("plain: torch.save, 1 a file", one, 1)):
        spent = timed(lambda p=path: torch.load(p), max(reads // 20, 1))  # type: ignore[misc]
        lines.append(line(title, path.stat().st_size / count, base, f"{spent}, the whole file, n = {max(reads // 20, 1)}", ""))
    for path, snapshots in ((whole, SNAPSHOTS), (short, SHORT)):
        listed = path.with_suffix(".json")
        kept = Trajectories(listed)
        opening = timed(lambda p=listed: segment(Trajectories(p), random), reads)  # type: ignore[misc]
        again = timed(lambda k=kept: segment(k, random), reads)  # type: ignore[misc]
        lines.append(line(f"ours, {snapshots} snapshots", path.stat().st_size / experts, base, opening, again))
    return lines


def line(title: str, size: float, base: float, first: str, again: str) -> str:
    """A row of the table."""
    return f"| {title} | {size:,.0f} | {size / base:.3f} | {first} | {again} |"


def stored(path: Path, layout: store.Layout, walks: list[NDArray[np.float32]]) -> None:
    """A shard of these experts, and its manifest beside it."""
    facts = {"spec": {"first": 0}, "code": "", "data": "", "layout": layout, "engine": {}}
    experts = (store.Expert(*store.encode(snapshots), 50.0, [1.0] * EPOCHS, 1.0) for snapshots in walks)
    store.write(path, facts, experts, len(walks), len(walks[0]), EPOCHS)
    manifest.build(path.with_suffix(".json"), {"total": len(walks)}, [path])


def segment(experts: Trajectories, random: np.random.Generator) -> Tensor:
    """A random segment of a random expert."""
    return experts.segment(int(random.integers(len(experts))), int(random.integers(experts.snapshots - SEGMENT)), SEGMENT)


def timed(call: Callable[[], Any], count: int) -> str:
    """Median and 90th percentile of `count` calls, in milliseconds, after one that warms up."""
    call()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return f"{statistics.median(times):.2f} ({np.quantile(times, 0.9):.2f})"


def walk(random: np.random.Generator, layout: store.Layout) -> NDArray[np.float32]:
    """Snapshots (51, P) of a random walk."""
    steps = random.normal(scale=1e-3, size=(SNAPSHOTS, sum(sizes_of(layout)))).astype(np.float32)
    return np.cumsum(steps, axis=0, dtype=np.float32)


def sizes_of(layout: store.Layout) -> list[int]:
    """Values of each parameter tensor."""
    return [int(np.prod(shape)) for _, shape in layout]


if __name__ == "__main__":
    main()

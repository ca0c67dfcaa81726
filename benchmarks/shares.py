"""How much each objective of a method moves the stored numbers: norms of its own gradient, at the start and after some outer steps.

    snakemake all_experts --configfile docs/choices/digits.yaml
    python -m benchmarks.shares docs/choices/digits.yaml [--methods esp logits] [--steps 0 100] [--seeds 5]

An outer step goes along the sum of the objectives' gradients. Each gradient is taken with the other objectives left out, at the same
stored numbers, real images, augmentation, segment and inner weights: the method's own after so many of its steps. "weight for equal" is
the weight at which the second gradient's norm would be the first's. Medians over seeds, with the smallest and largest.
"""

import argparse
import platform
import statistics
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esp_core import datasets
from esp_core.datasets import Dataset
from esp_core.distillation.outer_loop import Distillation
from esp_core.distillation.passes import Outcome
from esp_core.runtime import devices
from esp_core.study.config import Study, load
from esp_core.study.job_specs import spec
from esp_core.trajectories.reader import Trajectories


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--methods", nargs="+", default=["esp"], help="each with two objectives or more")
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 100], help="outer steps before the gradients are taken")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    devices.reuse_memory()
    study = load(arguments.config)
    machine = devices.describe(devices.pick(study.config["device"]))
    print(f"# {machine['device']}, {machine['threads']} threads, torch {machine['torch']}, Python {platform.python_version()}")
    print(
        f"# study {study.name}; gradient at codes and decoders or pixels, weights included; median (min to max) of n = {arguments.seeds}\n"
    )
    titles = ("cell", "method", "outer steps", "objective", "weight", "norm of its gradient", "of the first", "weight for equal")
    print(f"| {' | '.join(titles)} |\n{'| --- ' * len(titles)}|")
    for cell in study.cells:
        for method in arguments.methods:
            for line in rows(study, cell, method, arguments):
                print(line, flush=True)


def rows(study: Study, cell: tuple[str, int], method: str, arguments: argparse.Namespace) -> Iterator[str]:
    """A line a number of steps and objective."""
    norms = [measured(study, cell, method, seed, arguments) for seed in range(arguments.seeds)]
    weights = {kind: own.get("weight", 1.0) for kind, own in study.recipe(*cell, method)["objectives"].items()}
    first = next(iter(weights))
    for count in arguments.steps:
        for kind, weight in weights.items():
            own = [norm[count][kind] for norm in norms]
            ratio = statistics.median(norm[count][kind] / norm[count][first] for norm in norms)
            spread = f"{statistics.median(own):.2e} ({min(own):.2e} to {max(own):.2e})"
            equal = "" if kind == first else f"{weight / ratio:.1e}"
            yield f"| {cell[0]}, IPC {cell[1]} | {method} | {count} | {kind} | {weight:g} | {spread} | {ratio:.1e} | {equal} |"


def measured(study: Study, cell: tuple[str, int], method: str, seed: int, arguments: argparse.Namespace) -> dict[int, dict[str, float]]:
    """Norms by number of steps and objective, under one seed."""
    job = {**spec(study, "distill", cell[0], str(cell[1]), method), "study_seed": seed}
    root, device = arguments.results / study.name, devices.pick(job["device"])
    data = datasets.load(root / "data" / f"{cell[0]}.h5", device, job.get("validation"))
    experts = Trajectories(root / "experts" / cell[0] / "manifest.json", device) if job["experts"] else None
    found = gradients(job, data, experts, device, arguments.steps)
    return {count: {kind: float(own.norm()) for kind, own in parts.items()} for count, parts in found.items()}


def gradients(
    job: dict[str, Any], data: Dataset, experts: Trajectories | None, device: torch.device, steps: list[int]
) -> dict[int, dict[str, Tensor]]:
    """By number of outer steps and objective: its gradient (n,) at all stored numbers, its weight included."""
    marks = checkpoints(Distillation(job, data, experts, device), steps)
    found: dict[int, dict[str, Tensor]] = {}
    for count in steps:
        for kind, own in job["recipe"]["objectives"].items():
            recipe = {**job["recipe"], "objectives": {kind: own}, "iterations": count + 1}
            run = Distillation({**job, "recipe": recipe}, data, experts, device)
            if count:
                run.resume(marks[count])
            run.run(lambda *_: None)
            found.setdefault(count, {})[kind] = gradient(run)
    return found


def checkpoints(run: Distillation, steps: list[int]) -> dict[int, dict[str, Tensor]]:
    """What `run` has after each number of steps; it goes no further than the last of them."""
    marks: dict[int, dict[str, Tensor]] = {}

    def mark(own: Distillation, _: Outcome) -> None:
        if own.step in steps:
            marks[own.step] = {name: tensor.clone() for name, tensor in own.checkpoint().items()}
        if own.step >= max(steps):
            raise StopIteration

    if max(steps):
        with suppress(StopIteration):
            run.run(mark)
    return marks


def gradient(run: Distillation) -> Tensor:
    """The gradient (n,) that the last step left at all stored numbers."""
    return torch.cat([tensor.grad.flatten() for tensor in run.synthetic.tensors.values() if tensor.grad is not None])


if __name__ == "__main__":
    main()

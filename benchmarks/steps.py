"""One outer step of each method: time and peak memory against IPC and synthetic steps; ESP's beside a plain double backward.

    python -m benchmarks.steps [--ipc 1 10] [--steps 1 10] [--methods esp dm dsa mtt tesla] [--size 16] [--width 32] [--repeats 5]
                               [--bfloat16] [--compile] [--profile esp]

Steps are those of the named recipes on images of noise; esp:plain keeps the graph of the complete set, mtt:replay is MTT's exact gradient
by recomputing. With --bfloat16 each method is measured in that arithmetic too, with --compile as compiled code, the complete set in one
graph, MTT by recomputing, and with both as both; the last column is the cosine of its gradient with the method's first row. --profile
prints the operations that a method's step spends its time in, at the first IPC, and no table. Times are medians over `--repeats`, the ways
taking turns; memory is the bytes of all tensors alive (`esp_core.runtime.live_memory`), which compiled code does not show. ESP's, DM's and
DSA's step does not depend on the number of synthetic steps: they are measured once an IPC.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from esp_core.distillation.outer_loop import Distillation
from esp_core.runtime import devices
from esp_core.stages.footprint import COMPLETE, MICRO_BATCH, PLAIN, distillation, finish, measured
from esp_core.study import methods

REPLAY, LOW, COMPILED = ":replay", ":bfloat16", ":compiled"
OPERATIONS = 15  # rows of a profile


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 10], help="steps of MTT's student")
    parser.add_argument("--methods", nargs="+", default=["esp", "dm", "dsa", "mtt", "tesla"])
    parser.add_argument("--size", type=int, default=16, help="side of an image, pixels")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--width", type=int, default=32, help="channels of ConvNet-3")
    parser.add_argument("--real-batch", type=int, default=32, help="real images a class, where the method compares with real images")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bfloat16", action="store_true", help="measure in bfloat16 as well")
    parser.add_argument("--compile", action="store_true", help="measure compiled code as well")
    parser.add_argument("--profile", metavar="METHOD", help="print where its step spends its time, and nothing else")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    devices.reuse_memory()
    device = devices.pick(arguments.device)
    machine = devices.describe(device)
    print(f"# {machine['device']}, {machine['threads']} threads, torch {machine['torch']}, Python {platform.python_version()}")
    print(f"# ConvNet-3 of width {arguments.width}, {arguments.classes} classes of {arguments.channels}x{arguments.size}x{arguments.size},")
    print(f"# real batch {arguments.real_batch} a class, micro-batch {MICRO_BATCH}; medians of n = {arguments.repeats}\n")
    if arguments.profile:
        print(operations(arguments, device))
        return
    titles = ("method", "IPC", "synthetic steps", "images", "ms an outer step: median (min to max)", "of esp:plain", "peak MB", "cosine")
    print(f"| {' | '.join(titles)} |\n{'| --- ' * len(titles)}|")
    for ipc in arguments.ipc:
        for line in rows(arguments, ipc, device):
            print(line, flush=True)


Ways = dict[tuple[str, int], Callable[[], Distillation]]  # by name and steps of a student: a new job, on the same draws


def rows(arguments: argparse.Namespace, ipc: int, device: torch.device) -> Iterator[str]:
    """A line a way at one IPC."""
    ways: Ways = {name: way for method in arguments.methods for name, way in _ways(arguments, method, ipc, device)}
    jobs = {name: make() for name, make in ways.items()}
    times = _times(jobs, arguments.repeats)
    base = times.get(("esp" + PLAIN, 1))
    for (name, count), job in jobs.items():
        if (name, count) not in times:
            yield f"| {name} | {ipc} | {count} | {job.synthetic.images} | out of memory |  |  |  |"
            continue
        own = times[name, count]
        ratio = f"{statistics.median(own) / statistics.median(base):.2f}" if base else ""
        found = None if COMPILED in name else measured(ways[name, count](), count)
        memory = f"{found / 1e6:.1f}" if found else ""
        spread = f"{1000 * statistics.median(own):.1f} ({1000 * min(own):.1f} to {1000 * max(own):.1f})"
        cosine = f"{agreement(ways, name, count):.5f}" if LOW in name or COMPILED in name else ""
        yield f"| {name} | {ipc} | {count} | {job.synthetic.images} | {spread} | {ratio} | {memory} | {cosine} |"


def _times(jobs: dict[tuple[str, int], Distillation], repeats: int) -> dict[tuple[str, int], list[float]]:
    """Seconds of each way that the device's memory holds, the ways taking turns; a first turn warms up."""
    times: dict[tuple[str, int], list[float]] = {name: [] for name in jobs}
    for repeat in range(repeats + 1):
        for name in list(times):
            spent = seconds(jobs[name])
            if spent is None:
                del times[name]
            elif repeat:
                times[name].append(spent)
    return times


def _ways(
    arguments: argparse.Namespace, method: str, ipc: int, device: torch.device
) -> Iterator[tuple[tuple[str, int], Callable[[], Distillation]]]:
    shape = (arguments.channels, arguments.size, arguments.classes)
    network = {"name": "convnet3", "width": arguments.width, "depth": 3}
    eager = {**methods.recipe(method, "", ipc), "real_batch": arguments.real_batch, "precision": "float32", "compile": "never"}
    recipe = _fitting(eager, shape)

    def way(micro_batch: int = COMPLETE, steps: int = 1, **changes: Any) -> Callable[[], Distillation]:
        return partial(distillation, {**recipe, **changes}, network, ipc, shape, device, steps, micro_batch)

    if terms := way()().objectives:
        yield (method, 1), way(MICRO_BATCH)
        if method == "esp":
            yield (method + PLAIN, 1), way()
        if arguments.bfloat16:
            yield (method + LOW, 1), way(MICRO_BATCH, precision="bfloat16")
        if arguments.compile and all(term.objective.traceable or term.objective.by_class for term in terms):
            yield (method + COMPILED, 1), way(compile="always")
            if arguments.bfloat16:
                yield (method + COMPILED + LOW, 1), way(compile="always", precision="bfloat16")
        return
    for steps in arguments.steps:
        yield (method, steps), way(steps=steps)
        if method == "mtt":
            replay = {"trajectory": {**recipe["objectives"]["trajectory"], "memory": "replay"}}
            yield (method + REPLAY, steps), way(steps=steps, objectives=replay)
        if arguments.bfloat16:
            yield (method + LOW, steps), way(steps=steps, precision="bfloat16")
        if arguments.compile:
            yield (method + COMPILED, steps), way(steps=steps, compile="always")
            if arguments.bfloat16:
                yield (method + COMPILED + LOW, steps), way(steps=steps, compile="always", precision="bfloat16")


def _fitting(recipe: dict[str, Any], shape: tuple[int, int, int]) -> dict[str, Any]:
    """The recipe with decoders that small budgets hold, where it has any; the default ones are made for 3 x 32 x 32."""
    if recipe["parametrisation"]["kind"] != "latent" or shape[0] * shape[1] ** 2 >= 3072:
        return recipe
    return {**recipe, "parametrisation": {**recipe["parametrisation"], "decoders": 4, "width": 4}}


def agreement(ways: Ways, name: str, count: int) -> float:
    """The cosine of the gradients that a way, and the same method in eager float32, leave at the stored numbers."""
    found: list[Tensor] = []
    for way in (name, name.partition(":")[0]):
        job = ways[way, count]()
        seconds(job)
        found.append(torch.cat([t.grad.flatten().double() for t in job.synthetic.tensors.values() if t.grad is not None]))
    return float(torch.cosine_similarity(*found, dim=0))


def operations(arguments: argparse.Namespace, device: torch.device) -> str:
    """A table of the operations of one step of `--profile`'s method, those that take longest first, by their own time."""
    _, make = next(_ways(arguments, arguments.profile, arguments.ipc[0], device))
    job = make()
    seconds(job)
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=kinds) as seen:
        seconds(job)
    order = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return str(seen.key_averages().table(sort_by=order, row_limit=OPERATIONS, max_name_column_width=60))


def seconds(job: Distillation) -> float | None:
    """Wall seconds of the job's next outer step; None where the device's memory is too small for it."""
    job.recipe["iterations"] = job.step + 1
    devices.synchronise(job.device)
    start = time.perf_counter()
    fits = finish(job)
    devices.synchronise(job.device)
    return time.perf_counter() - start if fits else None


if __name__ == "__main__":
    main()

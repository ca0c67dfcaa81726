"""Stage `footprint`: peak memory of distillation against synthetic steps and against IPC, the data of Figure 7.

    python -m esp_core footprint --spec JSON --data D.h5 --out figure7.csv

Each method takes its steps as its recipe says, on images of the dataset's shape: what counts is how much is alive, so the experts'
snapshots are made up. A method of additive statistics is measured as it runs here, in micro-batches, and, as METHOD:plain, with the
graph of the complete set. Memory is counted in one way on every device: the bytes of all tensors alive, followed operation by
operation, above what was alive before the step.
"""

import argparse
import csv
import io
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from esp_core import networks, objectives, parametrisations
from esp_core.augment import dsa
from esp_core.distillation import memory
from esp_core.distillation.compiled import CompiledPasses
from esp_core.distillation.passes import Passes, Weighted
from esp_core.distillation.walk import backward, real_passes, real_statistics
from esp_core.networks.flat import FlatNetwork, flatten
from esp_core.objectives import Objective, OuterStep, State, Whole
from esp_core.parametrisations import Parametrisation, Task
from esp_core.runtime import devices, files, seeds
from esp_core.runtime.errors import command
from esp_core.runtime.progress import Progress
from esp_core.study import jobspec
from esp_core.trajectories import subspace

COLUMNS = "axis,method,ipc,steps,images,bytes,micro_batch,device,torch".split(",")
MICRO_BATCH = 64  # images alive at once where the recipe leaves that to the device
SNAPSHOTS = 6  # T + 1 of the default recipe
PLAIN = ":plain"


class LiveBytes(TorchDispatchMode):
    """Follows the storages that operations make; `peak` is the most bytes alive at once since it was entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive, self.peak = 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        inputs = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in inputs:
                self._follow(tensor)
        return out

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, key, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size


def peak(step: Callable[[], None]) -> int:
    """Bytes at the peak of `step`, above what was alive before it."""
    with LiveBytes() as mode:
        step()
    return mode.peak


class Bench:
    """A method's outer step, for `shape` (channels, size, classes), on made-up snapshots and real images of noise."""

    def __init__(
        self,
        recipe: dict[str, Any],
        network: dict[str, Any],
        ipc: int,
        shape: tuple[int, int, int],
        device: torch.device,
        compiled: bool = False,
    ):
        channels, size, classes = shape
        self.compiled = compiled
        self._passes: tuple[Passes, Passes] | None = None
        self.recipe, self.classes, self.device = recipe, classes, device
        self.generator = seeds.generator(0, "footprint", ipc)
        task = Task(classes, ipc, channels, size, torch.full((channels,), 0.5), torch.full((channels,), 0.25))
        self.synthetic: Parametrisation = parametrisations.build(task, **{**recipe["parametrisation"], "init": "noise"})
        self.synthetic.initialise(self.generator, None)
        self.synthetic.to(device)
        for tensor in self.synthetic.tensors.values():
            tensor.requires_grad_()
        model = networks.build(**network, channels=channels, size=size, classes=classes, seed=0).to(device)
        self.state = self._state(FlatNetwork(model, recipe["precision"]), flatten(model))
        self.real = torch.randn(recipe["real_batch"] * classes, channels, size, size, generator=self.generator).to(device)
        self.labels = torch.arange(classes).repeat_interleave(recipe["real_batch"])

    def _state(self, network: FlatNetwork, theta: Tensor) -> State:
        noise = [torch.randn(theta.shape, generator=self.generator).to(theta) for _ in range(SNAPSHOTS)]
        snapshots = torch.stack([theta * (1 + 0.01 * k) + 0.01 * noise[k] for k in range(SNAPSHOTS)])
        draw = dsa.draw(self.recipe["augment"], self.classes, self.generator)
        basis, direction = subspace.basis(snapshots), snapshots[-1] - snapshots[0]
        return State(network, theta, self.classes, draw, basis=basis, direction=direction, target=snapshots[-1], ensemble=theta[None])

    def objectives(self, steps: int) -> list[tuple[Objective | Whole, float]]:
        """The method's objectives, a student of its own taking `steps`, and their weights."""
        made = []
        for kind, settings in self.recipe["objectives"].items():
            own = {key: value for key, value in settings.items() if key != "weight"} | ({"steps": steps} if "steps" in settings else {})
            made.append((objectives.build(kind, **own), float(settings.get("weight", 1.0))))
        return made

    def run(self, steps: int, micro_batch: int | None) -> None:
        """`steps` outer steps, each with its inner step; one outer step for objectives that take the steps themselves."""
        made = self.objectives(steps)
        sums = [Weighted(str(i), o, weight) for i, (o, weight) in enumerate(made) if isinstance(o, Objective)]
        for _ in range(steps if sums else 1):
            for tensor in self.synthetic.tensors.values():
                tensor.grad = None
            if sums:
                self._walk(sums, micro_batch)
            for objective, weight in made:
                if isinstance(objective, Whole):
                    self._whole(objective, weight)

    def _walk(self, terms: list[Weighted], micro_batch: int | None) -> None:
        needed = any(t.objective.needs_real and t.weight for t in terms)
        kind = CompiledPasses if self.compiled else Passes
        over_real, over_synthetic = self._passes = self._passes or (kind(real_passes(terms).terms), kind(terms))
        real = real_statistics(over_real, self.real, self.labels, self.state, micro_batch) if needed else {}
        outcome = backward(over_synthetic, self.synthetic, real, self.state, micro_batch=micro_batch)
        if self.state.basis is not None and "gradient" in outcome.synthetic:
            gradient = outcome.synthetic["gradient"] / self.synthetic.images
            self.state.theta = self.state.theta - 0.1 * subspace.project(self.state.basis, gradient)

    def _whole(self, objective: Whole, weight: float) -> None:
        objective.tensors = {name: t.to(self.device).requires_grad_() for name, t in objective.tensors.items()}
        units = torch.arange(self.synthetic.units)
        real, labels = (self.real, self.labels) if objective.needs_real else (None, None)
        objective.backward(OuterStep(self.synthetic, units, self.state, real, labels, self.recipe["augment"], self.generator), weight)

    @property
    def walks(self) -> bool:
        """Whether an objective is a loss on additive statistics."""
        return any(isinstance(objective, Objective) for objective, _ in self.objectives(1))

    @property
    def keeps_graph(self) -> bool:
        """Whether, without micro-batches, the graph of the complete set is alive at once."""
        return any(isinstance(objective, Objective) or objective.keeps_graph for objective, _ in self.objectives(1))

    def needed(self, steps: int) -> float:
        """Bytes, roughly, that a graph of the complete set and of all steps keeps."""
        per_image = memory.saved_bytes(self.synthetic, self.state) * memory.DOUBLE_BACKWARD
        return float(per_image * self.synthetic.images * (1 if self.walks else steps))


def cases(spec: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
    """(axis, IPC, steps): all IPCs at the first number of steps, and all numbers of steps at IPC `at`."""
    yield from (("ipc", ipc, spec["steps"][0]) for ipc in spec["ipc"])
    yield from (("steps", spec["at"], steps) for steps in spec["steps"])


def run(spec: dict[str, Any], shape: tuple[int, int, int]) -> list[dict[str, Any]]:
    """Rows of `COLUMNS`; `bytes` is empty where the graph would not fit the device."""
    device = devices.pick(spec.get("device", "auto"))
    found = {key: value for key, value in devices.describe(device).items() if key in ("device", "torch")}
    progress = Progress("memory", len(spec["recipes"]) * len(list(cases(spec))), unit="cases", every=0)
    rows = []
    for method, recipes in spec["recipes"].items():
        for axis, ipc, steps in cases(spec):
            bench = Bench(recipes[str(ipc)], spec["network"], ipc, shape, device)
            small = bench.recipe["micro_batch"] or MICRO_BATCH
            for name, micro_batch in {method: small, method + PLAIN: None}.items() if bench.walks else [(method, None)]:
                value = _measured(bench, steps, micro_batch)
                row = {"axis": axis, "method": name, "ipc": ipc, "steps": steps, "images": bench.synthetic.images, "bytes": value}
                rows.append(row | {"micro_batch": micro_batch, **found})
            progress.step(f"{method}, IPC {ipc}, {steps} steps")
    return rows


def _measured(bench: Bench, steps: int, micro_batch: int | None) -> int | None:
    if micro_batch is None and bench.keeps_graph and bench.needed(steps) > memory.total_bytes(bench.device) / 2:
        return None
    try:
        return peak(lambda: bench.run(steps, micro_batch))
    except torch.OutOfMemoryError:
        return None


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """The rows as CSV, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write(out, text.getvalue())


@command
def main() -> None:
    from esp_core import datasets

    parser = argparse.ArgumentParser(prog="python -m esp_core footprint", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--spec", type=jobspec.read, required=True, help="JSON, as `python -m esp_core study CONFIG footprint figure7`")
    parser.add_argument("--data", type=Path, required=True, help="prepared dataset, .h5; only its shape counts")
    parser.add_argument("--out", type=Path, required=True, help="a row a method and case, .csv")
    args = parser.parse_args()
    data = datasets.load(args.data, torch.device("cpu"))
    channels, size, _ = data.shape
    write(run(args.spec, (channels, size, len(data.classes))), args.out)

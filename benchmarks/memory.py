"""Peak memory of an outer step against IPC and against inner steps: the data of Figure 7.

    python benchmarks/memory.py [--ipc 1 10 50] [--steps 1 10 50] [--out memory.csv]

Four ways to the gradient at the stored numbers: ESP walked in micro-batches (ours), ESP as a plain double backward over the
complete set, and MTT's student, unrolled over its steps on the complete set. Memory is counted one way on every device: the
bytes of all tensors alive, followed operation by operation, above what was alive before the step.
"""

import argparse
import csv
import io
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from esp_core import devices, files, networks, objectives, parametrisations, seeds
from esp_core.augment import dsa
from esp_core.networks.flat import FlatNetwork, flatten
from esp_core.objectives import State, training_loss
from esp_core.objectives.walk import Weighted, backward
from esp_core.parametrisations import Parametrisation, Task
from esp_core.trajectories import subspace

CLASSES, LENGTH, STEP_SIZE = 10, 5, 0.1
MEGABYTE = 1e6


class LiveBytes(TorchDispatchMode):
    """Follows the storages that operations make; `peak` is the most bytes alive at once since it was entered."""

    def __init__(self) -> None:
        super().__init__()
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


class Setting:
    """A cell of `ipc` images a class, a segment of made-up snapshots and the micro-batch; codes do not learn here."""

    def __init__(self, ipc: int, size: int, channels: int, width: int, micro_batch: int, device: torch.device):
        generator = seeds.generator(0, "memory", ipc)
        task = Task(CLASSES, ipc, channels, size, torch.full((channels,), 0.5), torch.full((channels,), 0.25))
        self.synthetic: Parametrisation = parametrisations.build(task, "latent", decoders=4, code_channels=4, width=4, upsamplings=2)
        self.synthetic.initialise(generator, None)
        self.synthetic.to(device)
        for tensor in self.synthetic.tensors.values():
            tensor.requires_grad_()
        network = networks.build("convnet3", channels, size, CLASSES, seed=0, width=width).to(device)
        theta = flatten(network)
        snapshots = torch.stack(
            [theta * (1 + 0.01 * k) + 0.01 * torch.randn(theta.shape, generator=generator).to(device) for k in range(LENGTH + 1)]
        )
        draw = dsa.draw("color_crop_cutout", CLASSES, generator)
        self.state = State(FlatNetwork(network), theta, CLASSES, draw, basis=subspace.basis(snapshots))
        self.terms = [Weighted("projection", objectives.build("projection"), 1.0)]
        self.target, self.micro_batch = snapshots[-1], micro_batch

    def forget(self) -> None:
        """Drop the gradients."""
        for tensor in self.synthetic.tensors.values():
            tensor.grad = None

    def esp(self, steps: int, micro_batch: int | None) -> None:
        """`steps` outer steps, each followed by its inner step."""
        for _ in range(steps):
            self.forget()
            outcome = backward(self.terms, self.synthetic, {}, self.state, micro_batch=micro_batch)
            gradient = outcome.synthetic["gradient"] / self.synthetic.images
            assert self.state.basis is not None
            self.state.theta = self.state.theta - STEP_SIZE * subspace.project(self.state.basis, gradient)

    def unrolled(self, steps: int) -> None:
        """MTT's loss (Eq. 1) through `steps` steps of gradient descent on the complete set, then one backward."""
        self.forget()
        units = torch.arange(self.synthetic.units)
        images, labels = self.synthetic.decode(units), self.synthetic.labels(units)
        theta = self.state.theta.detach().requires_grad_()
        student = theta
        for _ in range(steps):
            logits = self.state.network(student, self.state.draw(images, labels))[1]
            loss = training_loss(logits, labels.to(logits.device), "ce") / len(labels)
            student = student - STEP_SIZE * torch.autograd.grad(loss, student, create_graph=True)[0]
        distance = (student - self.target).square().sum() / (theta.detach() - self.target).square().sum()
        distance.backward(inputs=list(self.synthetic.tensors.values()))


def rows(ipcs: list[int], steps: list[int], make: Callable[[int], Setting], unroll_limit: int) -> Iterator[dict[str, Any]]:
    """A row for each IPC at one step and for each number of steps at the middle IPC, in MB; None past `unroll_limit` images x steps."""
    middle = ipcs[len(ipcs) // 2]
    for axis, cases in (("ipc", [(ipc, 1) for ipc in ipcs]), ("steps", [(middle, n) for n in steps])):
        for ipc, count in cases:
            setting = make(ipc)
            images = setting.synthetic.images
            row = {"axis": axis, "ipc": ipc, "steps": count, "images": images}
            row["esp_exact"] = peak(lambda s=setting, n=count: s.esp(n, s.micro_batch)) / MEGABYTE  # type: ignore[misc]
            small = images <= unroll_limit
            row["esp_plain"] = peak(lambda s=setting, n=count: s.esp(n, None)) / MEGABYTE if small else None  # type: ignore[misc]
            row["mtt_unrolled"] = peak(lambda s=setting, n=count: s.unrolled(n)) / MEGABYTE if images * count <= unroll_limit else None  # type: ignore[misc]
            yield row


def main() -> None:
    """Print the table, and write it where --out says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 5, 10, 20, 50])
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--micro-batch", type=int, default=64, help="images alive at once in the exact walk")
    parser.add_argument("--unroll-limit", type=int, default=20_000, help="images x steps past which a full graph is not built")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device = devices.pick(args.device)
    print(f"# {devices.describe(device)}, MB of live tensors, exact: n = 1")
    print(f"# ConvNet-3 of width {args.width}, images {args.channels}x{args.size}x{args.size}, micro-batch {args.micro_batch}")

    def make(ipc: int) -> Setting:
        return Setting(ipc, args.size, args.channels, args.width, args.micro_batch, device)

    text = io.StringIO()
    writer = csv.DictWriter(text, ["axis", "ipc", "steps", "images", "esp_exact", "esp_plain", "mtt_unrolled"], lineterminator="\n")
    writer.writeheader()
    for row in rows(args.ipc, args.steps, make, args.unroll_limit):
        writer.writerow({key: f"{value:.1f}" if isinstance(value, float) else value for key, value in row.items()})
        print(text.getvalue().splitlines()[-1], flush=True)
    if args.out:
        files.write(args.out, text.getvalue())


if __name__ == "__main__":
    sys.exit(main())

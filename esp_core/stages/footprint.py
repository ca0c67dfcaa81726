"""Stage `footprint`: peak memory of distillation against synthetic steps and against IPC, the data of Figure 7.

    python -m esp_core footprint --spec JSON --data D.h5 --out figure7.csv

Each method runs as in distillation, on random images of the dataset's shape and a made-up expert, since only memory counts.
A method with additive statistics is measured in micro-batches, as it runs here, and, as METHOD:plain, with the graph of the complete set.
Memory is counted in the same way on every device: the peak bytes of all tensors held, tracked operation by operation, beyond those
held before the first step.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor

from esp_core import networks
from esp_core.augment import dsa
from esp_core.datasets import Dataset, Split
from esp_core.datasets.normalisation import Normalisation
from esp_core.distillation import memory
from esp_core.distillation.outer_loop import Distillation
from esp_core.networks.flat import flatten
from esp_core.runtime import devices, files, seeds
from esp_core.runtime.errors import UserError, command
from esp_core.runtime.live_memory import LiveBytes
from esp_core.runtime.progress import Progress
from esp_core.study import arguments
from esp_core.trajectories import Trajectories

COLUMNS = "axis,method,ipc,steps,images,bytes,micro_batch,device,torch".split(",")
MICRO_BATCH = 64  # images in memory at once if the recipe leaves it to the device
COMPLETE = sys.maxsize  # instead, for the complete set
PLAIN = ":plain"
TINY = 1e-30  # learning rate, so small that noise does not diverge

Images = tuple[int, int, int]  # channels, size, classes


class MadeUpExperts:
    """One made-up trajectory that moves away from a network's weights in small steps; only the size of a segment counts."""

    def __init__(self, network: dict[str, Any], images: Images, snapshots: int, device: torch.device):
        channels, size, classes = images
        theta = flatten(networks.build(**network, channels=channels, size=size, classes=classes, seed=0))
        noise = torch.randn(snapshots, len(theta), generator=seeds.generator(0, "footprint"))
        self.snapshots = snapshots
        self.weights = (theta + 0.01 * torch.arange(snapshots).view(-1, 1) * (theta + noise)).to(device)

    def __len__(self) -> int:
        return 1

    def segment(self, expert: int, start: int, length: int) -> Tensor:
        return self.weights[start : start + length + 1].clone()

    def snapshot(self, expert: int, index: int) -> Tensor:
        return self.weights[index]


def distillation(
    recipe: dict[str, Any], network: dict[str, Any], ipc: int, images: Images, device: torch.device, steps: int, micro_batch: int
) -> Distillation:
    """A job with `steps` synthetic steps on noise: so many outer steps or, if an objective takes the steps itself, one outer step."""
    channels, size, classes = images
    own = {kind: {**settings, "steps": steps} for kind, settings in recipe["objectives"].items() if "steps" in settings}
    teacher = recipe["teacher"] | ({"start_max": 0} if "start_max" in recipe["teacher"] else {})
    changed = {
        "parametrisation": recipe["parametrisation"] | {"init": "noise"},
        "teacher": teacher,
        "objectives": recipe["objectives"] | own,
        "optimiser": {key: TINY if key.startswith("lr_") else value for key, value in recipe["optimiser"].items()},
        "iterations": 1 if own else steps,
        "micro_batch": micro_batch,
    }
    spec = {"study_seed": 0, "dataset": "noise", "ipc": ipc, "method": "footprint", "network": network}
    labels = torch.arange(classes).repeat_interleave(recipe["real_batch"])
    pixels = torch.randint(256, (len(labels), channels, size, size), dtype=torch.uint8, generator=seeds.generator(0, "footprint"))
    split = Split(pixels.to(device), labels)
    middle = torch.full((channels,), 0.5, device=device)
    data = Dataset("noise", split, split, tuple(map(str, range(classes))), Normalisation(middle, middle / 2), "")
    experts = MadeUpExperts(network, images, teacher.get("length", 0) + 1, device)
    return Distillation(spec | {"recipe": {**recipe, **changed}}, data, cast(Trajectories, experts), device)


def cases(spec: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
    """(axis, IPC, steps): every IPC at the first number of steps, and every number of steps at IPC `at`."""
    yield from (("ipc", ipc, spec["steps"][0]) for ipc in spec["ipc"])
    yield from (("steps", spec["at"], steps) for steps in spec["steps"])


def run(spec: dict[str, Any], images: Images, name: str = "auto") -> list[dict[str, Any]]:
    """Rows of `COLUMNS`; `bytes` is empty if the graph would not fit on the device."""
    device = devices.pick(name)
    found = {key: value for key, value in devices.describe(device).items() if key in ("device", "torch")}
    progress = Progress("memory", len(spec["recipes"]) * len(list(cases(spec))), unit="cases", every=0)
    rows = []
    for method, recipes in spec["recipes"].items():
        for axis, ipc, steps in cases(spec):
            recipe = recipes[str(ipc)] | {"compile": "never"}
            small = recipe["micro_batch"] or MICRO_BATCH
            job = distillation(recipe, spec["network"], ipc, images, device, steps, small)
            case = {"axis": axis, "ipc": ipc, "steps": steps, "images": job.synthetic.images, **found}
            rows.append(case | {"method": method, "bytes": measured(job, steps), "micro_batch": small if job.objectives else None})
            if job.objectives:
                job = distillation(recipe, spec["network"], ipc, images, device, steps, COMPLETE)
                rows.append(case | {"method": method + PLAIN, "bytes": measured(job, steps), "micro_batch": None})
            progress.step(f"{method}, IPC {ipc}, {steps} steps")
    return rows


def measured(job: Distillation, steps: int) -> int | None:
    """Peak bytes of the job; None if it needs the graph of the complete set or of all steps and that does not fit on the device."""
    keeps = job.recipe["micro_batch"] == COMPLETE if job.objectives else any(term.keeps_graph for _, term, _ in job.non_additive)
    if needed(job, steps) > memory.total_bytes(job.device) / 2 and keeps:
        return None
    with LiveBytes() as seen:
        fits = finish(job)
    return seen.peak if fits else None


def finish(job: Distillation) -> bool:
    """Run the job; False if the device's memory is too small for the requested micro-batch."""
    try:
        job.run(lambda *_: None)
    except UserError as error:
        if isinstance(error.__context__, torch.OutOfMemoryError):  # turned into a message by the outer loop
            return False
        raise
    return job.batcher.micro_batch == job.recipe["micro_batch"]


def needed(job: Distillation, steps: int) -> float:
    """Approximate bytes of a graph of the complete set and of all steps; takes the teacher's first state."""
    assert job.teacher is not None
    state = job.teacher.state(0, dsa.draw(job.recipe["augment"], job.classes, seeds.generator(0, "footprint")))
    per_image = memory.saved_bytes(job.synthetic, state) * memory.DOUBLE_BACKWARD
    return float(per_image * job.synthetic.images * (1 if job.objectives else steps))


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """Write the rows as CSV, atomically."""
    frame = pd.DataFrame(rows, columns=COLUMNS).astype({"bytes": "Int64", "micro_batch": "Int64"})
    files.write(out, frame.to_csv(index=False, lineterminator="\n"))


@command
def main() -> None:
    from esp_core import datasets

    args = arguments.parser("footprint", __doc__, "a row a method and case, .csv", "data", "device").parse_args()
    data = datasets.load(args.data, torch.device("cpu"))
    channels, size, _ = data.shape
    write(run(args.spec, (channels, size, len(data.classes)), args.device), args.out)

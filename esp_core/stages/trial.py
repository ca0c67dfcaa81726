"""Stage `trial`: build each network and condensed set of a dataset once, after data preparation, to find errors before long jobs.

python -m esp_core trial --spec JSON --data D.h5 --out TRIAL.json
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esp_core import datasets, parametrisations
from esp_core.networks import trial
from esp_core.parametrisations import RealImages, Task
from esp_core.runtime import files
from esp_core.runtime.errors import UserError, command
from esp_core.study import arguments
from esp_core.study.provenance import canonical


@dataclass(frozen=True)
class Facts:
    """What the trial uses of the data: name, class names, shape of the images, and `counts` of training images by class."""

    name: str
    classes: Sequence[str]
    channels: int
    size: int
    counts: Sequence[int]


def check(spec: dict[str, Any], facts: Facts) -> None:
    """Raise UserError, with a line for each network and set of `spec` that cannot be used with the data."""
    mistakes = [line for ask in (_networks, _sets) for line in ask(spec, facts)]
    if mistakes:
        raise UserError("\n".join(dict.fromkeys(mistakes)))


def run(spec: dict[str, Any], data_path: Path, out: Path | None = None) -> None:
    """Run `check` on the prepared data; write what was tried to `out`, if given."""
    data = datasets.load(data_path, validation=spec.get("validation"))
    counts = torch.bincount(data.train.labels, minlength=len(data.classes)).tolist()
    channels, size, _ = data.shape
    check(spec, Facts(data.name, data.classes, channels, size, counts))
    if out:
        files.write(out, canonical({"data": data.digest, "spec": spec}) + "\n")
    print(f"{data.name}: {len(spec['networks'])} networks and {len(spec['sets'])} condensed sets can be built")


def _networks(spec: dict[str, Any], facts: Facts) -> list[str]:
    shape = (facts.channels, facts.size, len(facts.classes))
    return [line for one in spec["networks"] for line in _told(trial.check, one["network"], *shape, one["needs"])]


def _sets(spec: dict[str, Any], facts: Facts) -> list[str]:
    return [line for one in spec["sets"] for line in _told(_build, one, facts)]


def _told(ask: Any, *arguments: Any) -> list[str]:
    try:
        ask(*arguments)
    except UserError as error:
        return str(error).splitlines()
    return []


def _build(one: dict[str, Any], facts: Facts) -> None:
    ipc = one["ipc"]
    if (fewest := min(facts.counts)) < ipc:
        label = list(facts.counts).index(fewest)
        raise UserError(
            f"{facts.name}: class {facts.classes[label]} has {fewest} training images, fewer than IPC {ipc}; "
            f"lower the IPC to {fewest} or add images"
        )
    task = Task(len(facts.classes), ipc, facts.channels, facts.size)
    synthetic = parametrisations.build(task, **one["parametrisation"])
    synthetic.initialise(torch.Generator().manual_seed(0), _Blank(facts))


class _Blank(RealImages):
    """Black images in place of real ones; a class has as many as in the data."""

    def __init__(self, facts: Facts):
        self.facts = facts

    def pick(self, label: int, count: int, how: str) -> Tensor:
        facts = self.facts
        if facts.counts[label] < count:
            raise UserError(
                f"{facts.name}: class {facts.classes[label]} has {facts.counts[label]} training images, of which the parametrisation's "
                f"init {how} takes {count}; lower the IPC, or start from init noise"
            )
        return torch.zeros(1, facts.channels, facts.size, facts.size).expand(count, -1, -1, -1)


@command
def main() -> None:
    args = arguments.parser("trial", __doc__, "what was tried, .json", "data").parse_args()
    run(args.spec, args.data, args.out)

"""The paper's claims (claims.yaml), the questions that each one poses to a study, and the tests that compare measurements.

A test takes a question and the evidence and returns comparisons; none if a measurement that it needs is missing.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from esp_core.reporting.verdicts import Comparison, Region, Sample, difference
from esp_core.runtime.errors import UserError
from esp_core.study.layouts import DATASET_TITLES, NETWORK_TITLES

Key = tuple[str, str, int, str]  # method, dataset, IPC, network
PAPERS_NETWORK = "convnet3"  # the network of a claim that names none


@dataclass(frozen=True)
class Claim:
    """An entry of claims.yaml, which explains its fields."""

    id: str
    claim: str
    source: str
    test: dict[str, Any]
    decide: dict[str, Any]
    datasets: str = "paper"
    cells: dict[str, list[int]] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    tables: tuple[int, ...] = ()

    @property
    def about(self) -> str:
        """What a question is about: a cell, a dataset or the study."""
        return TESTS[self.test["kind"]][1]


@dataclass(frozen=True)
class Question:
    """A claim applied to one case. `ipcs`: one for a cell, all for a dataset, none for the study as a whole."""

    claim: Claim
    dataset: str = ""
    ipcs: tuple[int, ...] = ()
    network: str = ""

    def key(self, side: str | Mapping[str, str], ipc: int | None = None) -> Key:
        """The run for one side of the test: `side` is a method, or a mapping of method and network."""
        names = {"network": self.network, **({"method": side} if isinstance(side, str) else side)}
        return (names["method"], self.dataset, self.ipcs[0] if ipc is None else ipc, names["network"])

    def compare(self, evidence: "Evidence") -> list[Comparison]:
        """The comparisons that its test makes."""
        settings = dict(self.claim.test)
        return TESTS[settings.pop("kind")][0](self, evidence, **settings)

    @property
    def allowed(self) -> Region:
        """The interval of values that support the claim."""
        ((how, given),) = self.claim.decide.items()
        value = float(given[self.dataset] if isinstance(given, Mapping) else given)
        return {"above": (value, math.inf), "below": (-math.inf, value), "about": (value / 2, value * 1.5), "within": (-value, value)}[how]

    @property
    def case(self) -> str:
        """The case in words."""
        if not self.ipcs:
            return "Figure 7"
        ipcs = f"IPC {' to '.join(map(str, dict.fromkeys((self.ipcs[0], self.ipcs[-1]))))}"
        network = [] if self.network == PAPERS_NETWORK else [NETWORK_TITLES.get(self.network, self.network)]
        return ", ".join([DATASET_TITLES.get(self.dataset, self.dataset), ipcs, *network])


@dataclass(frozen=True)
class Evidence:
    """The measurements. `of` and `against` hold the runs for the two sides of a comparison; only `against` includes quoted numbers.

    `memory` (Figure 7) has columns method, ipc, steps, bytes, device; `batches` (Figure 8) dataset, ipc, synthetic_batch, mean, std, n.
    """

    of: Mapping[Key, Sample]
    against: Mapping[Key, Sample]
    memory: pd.DataFrame
    batches: pd.DataFrame


def read(path: Path) -> list[Claim]:
    """The claims in the YAML file at `path`. Raises UserError for another file, or an entry with missing or unknown keys."""
    try:
        claims = [Claim(**entry) for entry in yaml.safe_load(path.read_text("utf-8"))["claims"]]
        return [claim for claim in claims if claim.about]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f"{path}: the list of claims cannot be read ({' '.join(str(error).split())}); restore the file") from None


def questions(claims: Iterable[Claim], spec: Mapping[str, Any]) -> Iterator[Question]:
    """Every claim for every case of a study.

    `spec` names the study's `cells` and `networks`, and under `own` the distillation network of each dataset. A claim about the paper's
    cells is posed for those whose dataset is in the study, measured or not; one of `datasets: any` also for the study's own datasets.
    """
    for claim in claims:
        if claim.about == "study":
            yield Question(claim)
            continue
        for dataset in dict.fromkeys(name for name, _ in spec["cells"]):
            if dataset in claim.cells:
                ipcs, networks = claim.cells[dataset], claim.networks or (PAPERS_NETWORK,)
            elif claim.datasets == "any" and dataset not in DATASET_TITLES:
                ipcs = sorted(ipc for name, ipc in spec["cells"] if name == dataset)
                networks = _own_networks(claim, spec["networks"], spec["own"][dataset])
            else:
                continue
            groups = [tuple(ipcs)] if claim.about == "dataset" else [(ipc,) for ipc in ipcs]
            if claim.test["kind"] != "monotone" or len(ipcs) > 1:
                yield from (Question(claim, dataset, group, network) for network, group in product(networks, groups))


def _own_networks(claim: Claim, known: list[str], own: str) -> tuple[str, ...]:
    """The networks for a claim on a study's own dataset: those that the claim names, or else the distillation network."""
    if not {side["network"] for side in claim.test.values() if isinstance(side, dict)} <= set(known):
        return ()
    return tuple(name for name in claim.networks if name in known and name != own) if claim.networks else (own,)


# The tests; claims.yaml says what each estimates.


def _difference(asked: Question, seen: Evidence, of: Any, against: Any, relative: bool = False) -> list[Comparison]:
    keys = asked.key(of), asked.key(against)
    one, other = seen.of.get(keys[0]), seen.against.get(keys[1])
    name = " - ".join(key[3] if keys[0][0] == keys[1][0] else key[0] for key in keys)
    return [difference(name, one, other, relative)] if one and other else []


def _ordering(asked: Question, seen: Evidence, of: str, among: list[str], all: bool = False) -> list[Comparison]:
    found = [comparison for method in among for comparison in _difference(asked, seen, of, method)]
    return [] if all and len(found) < len(among) else found


def _monotone(asked: Question, seen: Evidence, of: str) -> list[Comparison]:
    samples = [(ipc, seen.of.get(asked.key(of, ipc))) for ipc in asked.ipcs]
    pairs = [(f"IPC {more} - IPC {fewer}", larger, smaller) for (fewer, smaller), (more, larger) in pairwise(samples)]
    found = [difference(name, larger, smaller) for name, larger, smaller in pairs if larger and smaller]
    return found if len(found) == len(pairs) else []


def _batch(asked: Question, seen: Evidence, of: str, against: str) -> list[Comparison]:
    places = {"smallest": 0, "largest": -1, "second_largest": -2}
    found = []
    for ipc, part in seen.batches[seen.batches.dataset == asked.dataset].groupby("ipc"):
        rows = part.sort_values("synthetic_batch").to_dict("records")
        if len(rows) > 1:
            one, other = rows[places[of]], rows[places[against]]
            larger, smaller = (Sample(row["mean"], row["std"], int(row["n"])) for row in (one, other))
            found.append(difference(f"IPC {ipc}, {one['synthetic_batch']} - {other['synthetic_batch']}", larger, smaller))
    return found


def _flatness(asked: Question, seen: Evidence, of: str, over: str) -> list[Comparison]:
    curves = _curves(seen.memory, of, over)
    return [Comparison(f"{of} on {place}", float(curve.max() / curve.min())) for place, curve in curves.items()]


def _growth(asked: Question, seen: Evidence, of: str, against: str, over: str) -> list[Comparison]:
    ours, theirs = _curves(seen.memory, of, over), _curves(seen.memory, against, over)
    shared = {place: pd.concat([ours[place], theirs[place]], axis=1, join="inner").sort_index() for place in theirs if place in ours}
    grown = {place: both.iloc[-1] / both.iloc[0] for place, both in shared.items() if len(both) > 1}
    return [Comparison(f"{of} / {against} on {place}", float(growth.iloc[0] / growth.iloc[1])) for place, growth in grown.items()]


def _curves(memory: pd.DataFrame, method: str, over: str) -> dict[str, "pd.Series[float]"]:
    """Bytes along `over`: a curve for each device and value of the other column, without curves of a single point."""
    other = "ipc" if over == "steps" else "steps"
    rows = memory[memory.method == method].drop_duplicates(["device", other, over], keep="last")
    groups = {f"{device}, {other} {at:g}": part.set_index(over).bytes for (device, at), part in rows.groupby(["device", other], sort=False)}
    return {place: curve for place, curve in groups.items() if len(curve) > 1}


TESTS: dict[str, tuple[Callable[..., list[Comparison]], str]] = {
    "difference": (_difference, "cell"),
    "ordering": (_ordering, "cell"),
    "monotone": (_monotone, "dataset"),
    "batch": (_batch, "dataset"),
    "flatness": (_flatness, "study"),
    "growth": (_growth, "study"),
}

"""The paper's claims (esp_core/study/claims.yaml) and the questions that each becomes in a study: one a cell, a dataset or the study.

Light, since the Snakefile loads it: the rows that the questions need are the inputs of the job that answers them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from esp_core.runtime.errors import UserError
from esp_core.study.layouts import DATASET_TITLES, NETWORK_TITLES

Claim = Mapping[str, Any]
Cell = tuple[str, int]  # (dataset, IPC)
Key = tuple[str, str, int, str]  # (method, dataset, IPC, network)

# What one question of each kind of test is about.
ABOUT = {"difference": "cell", "ordering": "cell", "monotone": "dataset", "batch": "dataset", "flatness": "study", "growth": "study"}
DECISIONS = ("above", "below", "about", "within")
_NEEDED = ("id", "claim", "source", "test", "decide")
_OWN_NETWORK = "convnet3"  # of the paper's cells, where a claim names none


@dataclass(frozen=True)
class Question:
    """A claim asked once. `ipcs` are those it is about: one for a cell, all of a dataset, none for the study as a whole."""

    claim: Claim
    dataset: str = ""
    ipcs: tuple[int, ...] = ()
    network: str = ""

    @property
    def kind(self) -> str:
        """The kind of its test."""
        return str(self.claim["test"]["kind"])

    def key(self, side: str | Claim, ipc: int) -> Key:
        """The row that one side of the test names: a method, or a mapping of method and network."""
        names = {"method": side} if isinstance(side, str) else side
        return (str(names["method"]), self.dataset, ipc, str(names.get("network", self.network)))

    def keys(self) -> Iterator[Key]:
        """The measured rows that can decide it; figures come from files of their own."""
        if ABOUT[self.kind] != "study" and self.kind != "batch":
            test = self.claim["test"]
            sides = [test["of"], *([test["against"]] if "against" in test else []), *test.get("among", ())]
            yield from (self.key(side, ipc) for side, ipc in product(sides, self.ipcs))

    @property
    def case(self) -> str:
        """Where it is asked, in words; empty for the study as a whole."""
        ipcs = f"IPC {' to '.join(map(str, dict.fromkeys((self.ipcs[0], self.ipcs[-1]))))}" if self.ipcs else ""
        network = "" if self.network == _OWN_NETWORK else NETWORK_TITLES.get(self.network, self.network)
        return ", ".join(part for part in (DATASET_TITLES.get(self.dataset, self.dataset), ipcs, network) if part)


@cache
def claims() -> tuple[Claim, ...]:
    """The claims of claims.yaml. Raises UserError where an entry is incomplete, or names a test or decision that is unknown."""
    path = Path(__file__).with_name("claims.yaml")
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))["claims"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f"{path}: the list of claims cannot be read ({' '.join(str(error).split())}); restore the file") from None
    for number, claim in enumerate(listed):
        if mistake := _mistake(claim):
            raise UserError(f"{path}: claims[{number}].{mistake}")
    names = [claim["id"] for claim in listed]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{path}: claims.id: {twice[0]} stands there twice; give each claim an id of its own")
    return tuple(listed)


def questions(claims: Iterable[Claim], cells: Iterable[Cell], networks: Iterable[str], own: Mapping[str, str]) -> Iterator[Question]:
    """Every claim where a study can answer it.

    `cells` and `networks` are the study's, `own` names each dataset's network of distillation. A claim about the paper's cells
    is asked of those whose dataset the study has, measured or not; one of `datasets: any` also of the study's own datasets.
    """
    have: dict[str, list[int]] = {}
    for dataset, ipc in cells:
        have.setdefault(dataset, []).append(ipc)
    for claim in claims:
        if ABOUT[claim["test"]["kind"]] == "study":
            yield Question(claim)
        for dataset, ipcs in have.items() if "cells" in claim else ():
            if dataset in claim["cells"]:
                yield from _asked(claim, dataset, claim["cells"][dataset], claim.get("networks", (_OWN_NETWORK,)))
            elif claim["datasets"] == "any" and dataset not in DATASET_TITLES:
                yield from _asked(claim, dataset, sorted(ipcs), _measurable(claim, networks, own[dataset]))


def unasked(claims: Iterable[Claim], cells: Iterable[Cell]) -> list[str]:
    """The datasets that claims speak of and the study lacks, in the paper's order."""
    have = {dataset for dataset, _ in cells}
    spoken = {dataset for claim in claims for dataset in claim.get("cells", ())}
    return [dataset for dataset in DATASET_TITLES if dataset in spoken - have]


def _asked(claim: Claim, dataset: str, ipcs: Iterable[int], networks: Iterable[str]) -> Iterator[Question]:
    kind, every = claim["test"]["kind"], tuple(ipcs)
    groups = [every] if ABOUT[kind] == "dataset" else [(ipc,) for ipc in every]
    if kind != "monotone" or len(every) > 1:
        yield from (Question(claim, dataset, group, network) for network, group in product(networks, groups))


def _measurable(claim: Claim, networks: Iterable[str], own: str) -> list[str]:
    """The networks of a study's own dataset that the claim is asked on: those it names, or the one of distillation."""
    known = {*networks}
    sides = [claim["test"].get(side) for side in ("of", "against")]
    named = {side["network"] for side in sides if isinstance(side, dict) and "network" in side}
    if not named <= known:
        return []
    return [name for name in claim["networks"] if name in known and name != own] if "networks" in claim else [own]


def _mistake(claim: Any) -> str | None:
    if not isinstance(claim, dict):
        return "id: missing; a claim is a mapping"
    if missing := [key for key in _NEEDED if key not in claim]:
        return f"{missing[0]}: missing; every claim has {', '.join(_NEEDED)}"
    if claim["test"].get("kind") not in ABOUT:
        return f"test.kind: {claim['test'].get('kind')} is unknown; use one of {', '.join(ABOUT)}"
    if "of" not in claim["test"]:
        return "test.of: missing; name the method, or the size of batch"
    if len(claim["decide"]) != 1 or next(iter(claim["decide"])) not in DECISIONS:
        return f"decide: must be one of {', '.join(DECISIONS)} and its number"
    if ABOUT[claim["test"]["kind"]] != "study" and not (isinstance(claim.get("cells"), dict) and claim.get("datasets") in ("paper", "any")):
        return "datasets: must be paper or any, with the paper's cells beside it"
    return None

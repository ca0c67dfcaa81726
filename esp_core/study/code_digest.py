"""The code that a job of a study runs: the module of its stage, and the modules that it looks up by name."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from esp_core.study import kinds
from esp_core.study.config import Study
from esp_core.study.methods import FULL
from esp_core.study.output_paths import ARGUMENTS
from esp_core.study.provenance import module_file, source_digest


def code(study: Study, stage: str, *arguments: str) -> str:
    """The digest of the code that the job runs."""
    return _digest(frozenset(modules(study, stage, *arguments)))


@cache
def _digest(modules: frozenset[str]) -> str:
    return source_digest(*modules)


def modules(study: Study, stage: str, *arguments: str) -> Iterator[str]:
    """The module of the stage, and the modules that the job looks up by name."""
    given = dict(zip(ARGUMENTS[stage], arguments, strict=True))
    if stage != "network":  # the trial before the experts reruns only if their network changes
        yield f"esp_core.stages.{'experts' if stage == 'manifest' else stage}"
    if stage == "prepare":
        yield kinds.place("dataset", study.datasets[given["dataset"]]["kind"])[0]
    elif stage == "manifest":
        yield "esp_core.trajectories.manifest"
    for name in sorted(_networks(study, stage, given)):
        module, _ = kinds.place("network", name)
        if ":" not in name or module_file(module):  # a module of an installed package is a dependency, like torch
            yield module
    for cell in _cells(study, stage, given):
        recipe = study.recipe(*cell)
        yield from (kinds.place("parametrisation", kind)[0] for kind in _parametrisations(study, cell))
        if stage in ("distill", "footprint") and recipe["objectives"]:
            yield kinds.place("teacher", recipe["teacher"]["kind"])[0]
            yield from (kinds.place("objectives", kind)[0] for kind in recipe["objectives"])


def _parametrisations(study: Study, cell: tuple[str, int, str]) -> Iterable[str]:
    """The parametrisation of a set. An imported set of this package may have any: only its file says which."""
    if study.is_imported(cell[2]) and study.is_own_format(cell[2]):
        return kinds.names("parametrisation")
    return [study.recipe(*cell)["parametrisation"]["kind"]]


def _networks(study: Study, stage: str, given: Mapping[str, str]) -> set[str]:
    """The networks that the job builds."""
    if stage == "evaluate":
        return {given["network"]}
    if stage not in ("trial", "network", "experts", "distill", "footprint"):
        return set()
    dataset = study.figures[given["figure"]].dataset if stage == "footprint" else given["dataset"]
    tested = {row[3] for row in study.rows() if row[0] == dataset} if stage == "trial" else set()
    return tested | {study.distill_network(dataset)["name"]}


def _cells(study: Study, stage: str, given: Mapping[str, str]) -> Iterable[tuple[str, int, str]]:
    """The (dataset, IPC, method) whose sets the job makes, decodes or measures."""
    if stage in ("distill", "import_set", "evaluate") and given["method"] != FULL:
        return [(given["dataset"], int(given["ipc"]), given["method"])]
    if stage == "trial":
        return [cell for cell in study.condensed() if cell[0] == given["dataset"]]
    if stage == "grids":
        return study.figures[given["figure"]].cells
    figure = study.figures[given["figure"]] if stage == "footprint" else None
    return [(figure.dataset, figure.at, method) for method in figure.methods] if figure else []

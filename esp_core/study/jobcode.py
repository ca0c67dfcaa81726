"""The code that every job of a study runs: its stage's module, and those that it looks up by name."""

from collections.abc import Iterable, Iterator
from functools import cache

from esp_core.study import kinds
from esp_core.study.config import Study
from esp_core.study.methods import FULL
from esp_core.study.provenance import module_file, source_digest
from esp_core.study.specs import ARGUMENTS


def code(study: Study, stage: str, *arguments: str) -> str:
    """The digest of the code that the job runs."""
    return _digest(tuple(modules(study, stage, *arguments)))


@cache
def _digest(modules: tuple[str, ...]) -> str:
    return source_digest(*modules)


def modules(study: Study, stage: str, *arguments: str) -> Iterator[str]:
    """The stage's module and those that it looks up by name."""
    given = dict(zip(ARGUMENTS[stage], arguments, strict=True))
    if stage == "network":
        yield from _network_modules(study.distill_network(given["dataset"])["name"])
        return
    yield f"esp_core.stages.{'experts' if stage == 'manifest' else stage}"
    if stage == "prepare":
        yield f"esp_core.datasets.{study.datasets[given['dataset']]['kind']}"
    elif stage == "trial":
        yield from _trial_modules(study, given["dataset"])
    elif stage == "experts":
        yield from _network_modules(study.distill_network(given["dataset"])["name"])
    elif stage == "manifest":
        yield "esp_core.trajectories.manifest"
    elif stage == "distill":
        recipe = study.recipe(given["dataset"], int(given["ipc"]), given["method"])
        yield from _network_modules(study.distill_network(given["dataset"])["name"])
        yield f"esp_core.parametrisations.{recipe['parametrisation']['kind']}"
        if recipe["objectives"]:
            yield f"esp_core.teachers.{recipe['teacher']['kind']}"
        yield from (f"esp_core.objectives.{kind}" for kind in recipe["objectives"])
    elif stage == "import_set":
        yield "esp_core.parametrisations.imported"
    elif stage == "evaluate":
        yield from _network_modules(given["network"])
        if given["method"] != FULL:
            yield from _parametrisation_modules(study, [(given["dataset"], int(given["ipc"]), given["method"])])
    elif stage == "figures":
        yield from _parametrisation_modules(study, study.figures[given["figure"]].cells)
    elif stage == "footprint":
        yield from _footprint_modules(study, given["figure"])


def _trial_modules(study: Study, dataset: str) -> Iterator[str]:
    """The modules of a dataset's networks and parametrisations."""
    names = {row[3] for row in study.rows() if row[0] == dataset} | {study.distill_network(dataset)["name"]}
    yield from (module for name in sorted(names) for module in _network_modules(name))
    yield from _parametrisation_modules(study, [cell for cell in study.condensed() if cell[0] == dataset])


def _parametrisation_modules(study: Study, cells: Iterable[tuple[str, int, str]]) -> Iterator[str]:
    """The modules that decode condensed sets."""
    recipes = (study.recipe(*cell) for cell in cells)
    yield from sorted({f"esp_core.parametrisations.{recipe['parametrisation']['kind']}" for recipe in recipes})


def _footprint_modules(study: Study, figure: str) -> Iterator[str]:
    """The modules that a step of its methods runs."""
    asked = study.figures[figure]
    recipes = [study.recipe(asked.dataset, asked.at, method) for method in asked.methods]
    yield from _network_modules(study.distill_network(asked.dataset)["name"])
    yield from sorted({f"esp_core.parametrisations.{recipe['parametrisation']['kind']}" for recipe in recipes})
    yield from sorted({f"esp_core.teachers.{recipe['teacher']['kind']}" for recipe in recipes if recipe["objectives"]})
    yield from sorted({f"esp_core.objectives.{kind}" for recipe in recipes for kind in recipe["objectives"]})


def _network_modules(name: str) -> Iterator[str]:
    """The module of a network; none for one of an installed package, which is a dependency like torch."""
    module, _ = kinds.place("network", name)
    if ":" not in name or module_file(module):
        yield module

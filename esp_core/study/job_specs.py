"""The spec of every job of a study: a JSON object with all that the job depends on, besides its input files and its code.

Snakemake reruns a job if its spec or its code digest (see `code_digest`) changes.
"""

from collections.abc import Callable, Iterable
from typing import Any

from esp_core.datasets import catalogue
from esp_core.datasets.identity import identity
from esp_core.study import kinds, methods
from esp_core.study.config import Study
from esp_core.study.layouts import METHOD_TITLES, NETWORK_TITLES
from esp_core.study.methods import FULL

Spec = dict[str, Any]
NOT_OF_THE_PROTOCOL = ("protocol", "seeds", "precision", "compile", "full", "networks")  # keys of `evaluation`


def _common(study: Study, dataset: str) -> Spec:
    return {"study_seed": study.config["seed"], "dataset": dataset}


def _split(study: Study, dataset: str) -> Spec:
    """`_common`, plus the split into training and test images and the whitening."""
    own = {key: study.datasets[dataset].get(key) for key in ("validation", "whiten")}
    return _common(study, dataset) | {key: value for key, value in own.items() if value is not None}


def _download(study: Study, dataset: str) -> Spec:
    settings = study.datasets[dataset]
    return {"dataset": dataset, "kind": settings["kind"], "mirror": settings["mirror"]}


def _prepare(study: Study, dataset: str) -> Spec:
    settings = study.datasets[dataset]
    job = {"kind": settings["kind"], "options": settings["options"]}
    if settings["normalisation"] == "published":
        entry = catalogue.ENTRIES[settings["kind"]]
        job["normalisation"] = {"mean": list(entry.mean), "std": list(entry.std)}
    if settings["whiten"]:
        job["whiten"] = settings["whiten"]
    if own := identity(settings["kind"], settings["options"]):
        job["own"] = own
    return _common(study, dataset) | job


def _trial(study: Study, dataset: str) -> Spec:
    """The networks and sets of `dataset`, each once, and the attributes that the distillation network needs."""
    made = [cell for cell in study.condensed() if cell[0] == dataset and not study.is_imported(cell[2])]
    cells = [(ipc, study.recipe(name, ipc, method)) for name, ipc, method in made]
    needs = ["features", "classifier"] if any(methods.uses_network(recipe) for _, recipe in cells) else []
    compared = {kind for _, recipe in cells for kind in recipe["objectives"]}
    needs += sorted({need for kind in compared for need in kinds.fact("objectives", kind, "NEEDS")})
    tested = [study.network(dataset, network) for name, *_, network in study.rows() if name == dataset]
    teaching = [{"network": study.distill_network(dataset), "needs": needs}] if needs else []
    return _split(study, dataset) | {
        "networks": _each_once([*teaching, *({"network": network, "needs": []} for network in tested)]),
        "sets": _each_once([{"ipc": ipc, "parametrisation": recipe["parametrisation"]} for ipc, recipe in cells]),
    }


def _network(study: Study, dataset: str) -> Spec:
    """The spec of the trial before the experts.

    It may hold only what the experts' specs hold, or an unrelated change would retrain them. The same is true of its code digest.
    """
    return {"dataset": dataset, "networks": [{"network": study.distill_network(dataset), "needs": ["features", "classifier"]}], "sets": []}


def _each_once(values: list[Spec]) -> list[Spec]:
    return [value for i, value in enumerate(values) if value not in values[:i]]


def _trajectories(study: Study, dataset: str) -> Spec:
    settings = study.experts(dataset)
    return _split(study, dataset) | {
        "network": study.distill_network(dataset),
        "training": {key: value for key, value in settings.items() if key not in ("count", "shard", "keep", "import")},
        "keep": settings["keep"],
    }


def _experts(study: Study, dataset: str, shard: str) -> Spec:
    settings = study.experts(dataset)
    first = int(shard) * settings["shard"]
    return _trajectories(study, dataset) | {"first": first, "count": min(settings["shard"], settings["count"] - first)}


def _manifest(study: Study, dataset: str) -> Spec:
    settings = study.experts(dataset)
    return _trajectories(study, dataset) | {"total": settings["count"], "shard": settings["shard"]}


def _distill(study: Study, dataset: str, ipc: str, method: str) -> Spec:
    experts = {"total": study.experts(dataset)["count"]} if study.uses_experts(dataset, int(ipc), method) else None
    return _split(study, dataset) | {
        "ipc": int(ipc),
        "method": method,
        "network": study.distill_network(dataset),
        "recipe": study.recipe(dataset, int(ipc), method),
        "experts": experts,
    }


def _import_set(study: Study, dataset: str, ipc: str, method: str) -> Spec:
    own = study.methods[method]
    asked = {"space": own.get("space"), "labels": own.get("labels", "soft"), "factor": own.get("factor", 1)}
    folders = [identity("imagefolder", {"path": str(file)}) for file in study.files(dataset, int(ipc), method) if file.is_dir()]
    return {"dataset": dataset, "ipc": int(ipc), "method": method, **asked, **({"own": folders} if folders else {})}


def _evaluate(study: Study, dataset: str, ipc: str, method: str, network: str) -> Spec:
    settings = study.evaluation(dataset)
    own = settings["networks"].get(network, {})
    changes = {key: value for key, value in {**settings, **own}.items() if key not in NOT_OF_THE_PROTOCOL}
    if method == FULL:
        changes |= {**settings["full"], **own.get("full", {})}
    return _split(study, dataset) | {
        "ipc": int(ipc),
        "method": method,
        "network": study.network(dataset, network),
        "protocol": methods.protocol(settings["protocol"], changes, study.flip(dataset)),
        "seeds": settings["seeds"],
        "precision": settings["precision"],
        "compile": settings["compile"],
    }


def _tables(study: Study, table: str) -> Spec:
    shown = study.tables[table]
    own = {} if table.isdecimal() else {"name": table, "title": shown.title}
    return own | {
        "table": shown.number,
        "study": study.name,
        "cells": [list(cell) for cell in shown.cells],
        "methods": list(shown.methods),
        "networks": list(shown.networks),
        "titles": _titles(study, shown.methods),
    }


def _comparisons(study: Study) -> Spec:
    compared = study.compared()
    return {
        "study": study.name,
        "compared": [list(one) for one in compared],
        "titles": _titles(study, dict.fromkeys(name for one in compared for name in one[:2])),
    }


def _claims(study: Study) -> Spec:
    return {
        "study": study.name,
        "cells": [list(cell) for cell in study.cells],
        "networks": [name for name in study.networks if name in NETWORK_TITLES],
        "own": {dataset: study.distill_network(dataset)["name"] for dataset in study.datasets},
        "titles": _titles(study, study.methods),
    }


def _settings(study: Study) -> Spec:
    return {"config": {key: value for key, value in study.config.items() if key != "device"}}  # what is computed, not on which device


def _footprint(study: Study, figure: str) -> Spec:
    asked = study.figures[figure]
    return _common(study, asked.dataset) | {
        "network": study.distill_network(asked.dataset),
        "ipc": list(asked.ipcs),
        "steps": list(asked.steps),
        "at": asked.at,
        "recipes": {
            method: {str(ipc): study.recipe(asked.dataset, ipc, method) for ipc in sorted({*asked.ipcs, asked.at})}
            for method in asked.methods
        },
    }


def _grids(study: Study, figure: str) -> Spec:
    asked = study.figures[figure]
    return {"figure": asked.number, "dataset": asked.dataset, "titles": _titles(study, dict.fromkeys(cell[2] for cell in asked.cells))}


def _plots(study: Study, figure: str) -> Spec:
    asked = study.figures[figure]
    rows = [
        {"ipc": ipc, "method": method, "synthetic_batch": study.recipe(dataset, ipc, method)["synthetic_batch"]}
        for dataset, ipc, method in asked.cells
    ]
    own = study.distill_network(asked.dataset)["name"]
    return {
        "figure": asked.number,
        "dataset": asked.dataset,
        "network": own,
        "at": asked.at,
        "rows": rows,
        "titles": _titles(study, asked.methods),
    }


def _losses(study: Study, dataset: str, ipc: str) -> Spec:
    names = [cell[2] for cell in study.condensed() if cell[:2] == (dataset, int(ipc))]
    return {"dataset": dataset, "ipc": int(ipc), "titles": _titles(study, names)}


def _titles(study: Study, names: Iterable[str]) -> dict[str, str]:
    """The names of methods in tables and figures: the study's title, else the paper's, else the name itself."""
    return {name: study.methods[name].get("title", METHOD_TITLES.get(name, name)) for name in names}


_MAKERS: dict[str, Callable[..., Spec]] = {
    "download": _download,
    "prepare": _prepare,
    "trial": _trial,
    "network": _network,
    "experts": _experts,
    "manifest": _manifest,
    "distill": _distill,
    "import_set": _import_set,
    "evaluate": _evaluate,
    "tables": _tables,
    "comparisons": _comparisons,
    "claims": _claims,
    "settings": _settings,
    "footprint": _footprint,
    "grids": _grids,
    "plots": _plots,
    "losses": _losses,
}


def spec(study: Study, stage: str, *arguments: str) -> Spec:
    """The spec of the job with this `stage` and `arguments`, as in a line of `study.jobs()`."""
    return _MAKERS[stage](study, *arguments)

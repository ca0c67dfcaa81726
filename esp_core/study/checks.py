"""Checks of a study beyond the schema: names must exist, and numbers must fit one another. One line per mistake."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esp_core.datasets import catalogue
from esp_core.runtime.errors import UserError
from esp_core.study import budget, declarations, kinds, methods, schema
from esp_core.study.methods import FULL

if TYPE_CHECKING:
    from esp_core.study.config import Study


BESIDE_IMPORT = ("space", "labels", "factor")  # keys that are allowed only beside `import`


def refuse(mistakes: Iterable[str]) -> None:
    """Raise UserError with all `mistakes`, if there are any."""
    if lines := list(dict.fromkeys(mistakes)):
        raise UserError("\n".join(lines))


def unwritable(value: Any, *keys: str | int) -> Iterator[str]:
    """Values that YAML reads but a spec cannot hold, such as a date or infinity, in settings that the schema does not restrict."""
    if isinstance(value, Mapping | list):
        for key, entry in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from unwritable(entry, *keys, key)
    elif not isinstance(value, str | int | float | None) or value in (math.inf, -math.inf) or value != value:
        yield f"{schema.path('', *keys)}: {value} is neither text nor a finite number; put it in quotes"


def mistakes(study: "Study") -> Iterator[str]:
    """Mistakes in the datasets, networks, methods and tables of `study`."""
    for dataset in study.datasets:
        yield from _dataset(study, dataset)
        yield from _network("distill_network", study.distill_network(dataset))
        for name in study.networks:
            yield from _network(f"networks.{name}", study.network(dataset, name))
        yield from _evaluation(study.evaluation(dataset), study.networks)
    for method in study.methods:
        yield from _method(study, method)
    known = {"datasets": study.datasets, "methods": study.methods, "networks": study.networks, "quoted": study.methods}
    for number, settings in study.config.get("tables", {}).items():
        for section, value in (settings or {}).items():
            if section in known:
                yield from schema.strangers(f"tables.{number}.{section}", value, known[section])
            elif number.isdecimal():
                yield f"tables.{number}.{section}: has no meaning here; allowed: in a table with a name"
    for index, pair in enumerate(study.config["comparisons"]):
        for side, name in pair.items():
            yield from schema.strangers(f"comparisons[{index}].{side}", [name], [name for name in study.methods if name != FULL])


def untrained(study: "Study") -> Iterator[str]:
    """Expert snapshots that `study` uses but does not train or keep; imported experts that are missing or of another number."""
    for name in study.datasets:
        experts = study.experts(name)
        if "import" in experts:
            yield from _imported_experts(Path(experts["import"]), experts["count"])
        if experts["keep"] > experts["epochs"] + 1:
            yield f"experts.keep: {experts['keep']} is more than there are; allowed: at most {experts['epochs'] + 1}, experts.epochs + 1"
    for dataset, ipc, method in study.condensed():
        recipe, keep = study.recipe(dataset, ipc, method), study.experts(dataset)["keep"]
        if (last := methods.last_epoch(recipe)) >= keep:
            start, length = recipe["teacher"]["start_max"], recipe["teacher"]["length"]
            yield (
                f"{_key(study, method, dataset, ipc, 'teacher')}.start_max: {start} + length {length} needs {last + 1} snapshots, "
                f"experts.keep is {keep}; allowed: at most {keep - 1 - length}, or a larger experts.keep"
            )


def _imported_experts(path: Path, count: int) -> Iterator[str]:
    try:
        found = json.loads(path.read_bytes())["spec"]["total"]
    except FileNotFoundError:
        yield f"experts.import: {path}: no such file; make it with esp experts import"
    except (OSError, ValueError, KeyError, TypeError):
        yield f"experts.import: {path}: no manifest of experts; make it with esp experts import"
    else:
        if found != count:
            yield f"experts.count: {count}, but {path} lists {found} experts; allowed: {found}"


def unfitting(study: "Study") -> Iterator[str]:
    """Parametrisations too large for their cell, and whitening of images that are too large, for datasets of known shape; and clamping
    of `formation` under whitening, which is impossible."""
    for dataset, ipc, method in study.condensed():
        settings, parametrisation = study.datasets[dataset], study.recipe(dataset, ipc, method)["parametrisation"]
        if settings["whiten"] and parametrisation["kind"] == "formation" and parametrisation.get("clamp"):
            key = _key(study, method, dataset, ipc, "parametrisation")
            yield f"{key}.clamp: parts of whitened images cannot be clamped; allowed: 0, where datasets.{dataset}.whiten is set"
        if entry := catalogue.ENTRIES.get(settings["kind"]):
            channels, side, _ = entry.shape
            cell = budget.Cell(entry.classes, ipc, channels, settings["options"].get("size", side))
            if settings["whiten"] and (why := budget.too_large_to_whiten(channels, cell.size)):
                yield f"datasets.{dataset}.whiten: {why}"
            try:
                budget.check(parametrisation, cell)
            except UserError as error:
                yield f"methods.{method}.cells.{dataset}/{ipc}: {error}"


def unshown(study: "Study") -> Iterator[str]:
    """Datasets, methods and networks that no table or figure of `study` shows; they would silently be left out."""
    shown = study.tables.values()
    drawn = {method for figure in study.figures.values() for method in (*figure.methods, *(cell[2] for cell in figure.cells))}
    for section, names, used in (
        ("datasets", study.datasets, {name for table in shown for name, _ in table.cells}),
        ("methods", study.methods, {name for table in shown for name in table.methods} | drawn),
        ("networks", study.networks, {name for table in shown for name in table.networks}),
    ):
        yield from (
            f"{section}.{name}: no table shows it; add it to one under tables, or leave it out" for name in names if name not in used
        )


def _evaluation(settings: Mapping[str, Any], networks: Iterable[str]) -> Iterator[str]:
    yield from schema.strangers("evaluation.networks", settings["networks"], networks)
    for own in ({}, *settings["networks"].values()):
        if "temperature" in (both := {**settings, **own}) and both.get("soft_labels") != "kl":
            yield "evaluation.temperature: has no meaning here; allowed: with evaluation.soft_labels kl"


def uncompared(study: "Study") -> Iterator[str]:
    """Comparisons of methods that are never evaluated on the same cell and network."""
    found = {one[:2] for one in study.compared()}
    for index, pair in enumerate(study.config["comparisons"]):
        if (pair["of"], pair["against"]) not in found:
            yield f"comparisons[{index}]: {pair['of']} and {pair['against']} share no measured cell and network; show both in one table"


def _dataset(study: "Study", name: str) -> Iterator[str]:
    settings, key = study.datasets[name], f"datasets.{name}"
    kind = settings["kind"]
    if kind not in kinds.names("dataset"):
        yield f"{key}.kind: {kinds.unknown('dataset', kind)}"
        return
    yield from schema.mistakes(settings["options"], kinds.settings("dataset", kind), f"{key}.options")
    if entry := catalogue.ENTRIES.get(kind):
        most = entry.images_per_class - int(entry.images_per_class * settings.get("validation", 0))
        yield from (
            f"{key}.ipc: {ipc} is more than a class has; allowed: at most {most} for {kind}" for ipc in settings["ipc"] if ipc > most
        )
    if settings["normalisation"] == "published" and not (entry and entry.std):
        yield f"{key}.normalisation: nothing is published for {kind}; allowed: measured"
    if settings["whiten"] and settings["normalisation"] == "published":
        yield f"{key}.normalisation: published has no meaning beside whiten, which takes its place; leave one of the two out"


def _network(key: str, network: Mapping[str, Any]) -> Iterator[str]:
    name, own = network["name"], ":" in network["name"]
    if not own and name not in kinds.names("network"):
        yield f"{key}: {kinds.unknown('network', name)}"
    elif own and (why := declarations.unimportable(*kinds.place("network", name))):
        yield f"{key}: {name}: {why}"
    else:
        given = {setting: value for setting, value in network.items() if setting != "name"}
        yield from schema.mistakes(given, kinds.settings("network", name), key)


def _method(study: "Study", name: str) -> Iterator[str]:
    own, key = study.methods[name], f"methods.{name}"
    if name == FULL:
        yield from (f"{key}.{setting}: {FULL} has no recipe; set evaluation.full" for setting in own if setting != "title")
        return
    if study.is_imported(name):
        yield from _imported(study, name)
        return
    yield from (f"{key}.{setting}: has no meaning here; allowed: beside import" for setting in BESIDE_IMPORT if setting in own)
    cells = [f"{dataset}/{ipc}" for dataset, ipc in study.cells]
    yield from (f"{key}.cells.{cell}: no such cell{schema.allowed(cell, cells)}" for cell in own.get("cells", {}) if cell not in cells)
    for dataset, ipc in study.cells:
        try:
            recipe = study.recipe(dataset, ipc, name)
        except UserError as error:
            yield str(error)
            return
        for line in _recipe(recipe):
            section, rest = re.split(r"(?=[.:])", line, maxsplit=1)
            yield f"{_key(study, name, dataset, ipc, section)}{rest}"


def _imported(study: "Study", name: str) -> Iterator[str]:
    own, key, known = study.methods[name], f"methods.{name}", ("import", "title", *BESIDE_IMPORT)
    more = (setting for setting in own if setting not in known)
    yield from (f"{key}.{setting}: a set that is imported has no recipe{schema.allowed(setting, known)}" for setting in more)
    if study.is_own_format(name):
        yield from (f"{key}.{setting}: has no meaning for a .safetensors; leave it out" for setting in BESIDE_IMPORT if setting in own)
    elif "space" not in own:
        yield f"{key}.space: missing; give what the numbers of its images are, unit, normalised or zca"
    for dataset, ipc in study.cells:
        if (space := own.get("space", "unit")) != "unit" and (space == "zca") != bool(study.datasets[dataset]["whiten"]):
            whiten = study.datasets[dataset]["whiten"] or "null"
            yield f"{key}.space: {space}, but datasets.{dataset}.whiten is {whiten}; change one of them"
        missing = [file for file in study.files(dataset, ipc, name) if not file.exists()]
        yield from (f"{key}.import: {file}: no such file, for {dataset} at IPC {ipc}; put it there" for file in missing)


def _key(study: "Study", method: str, dataset: str, ipc: int, section: str) -> str:
    """The key of a section of a recipe; the key inside the cell if the study changes the section for that cell."""
    cell = f"{dataset}/{ipc}"
    changed = study.methods[method].get("cells", {}).get(cell) or {}
    return f"methods.{method}.cells.{cell}.{section}" if section in changed else f"methods.{method}.{section}"


def _recipe(recipe: Mapping[str, Any]) -> Iterator[str]:
    """Mistakes in a complete recipe; each line begins with the key inside the recipe."""
    if "iterations" not in recipe:
        yield "iterations: missing; give the number of outer steps"
    wanted = ["parametrisation", *(["teacher", "optimiser"] if recipe["objectives"] else [])]
    for section in wanted:
        yield from _section(section, recipe[section].get("kind"), recipe[section], section)
    for kind, settings in recipe["objectives"].items():
        yield from _section("objectives", kind, settings, f"objectives.{kind}")
        needs = kinds.fact("objectives", kind, "TEACHER", None)
        if needs and recipe["teacher"].get("kind") != needs:
            yield f"objectives.{kind}: needs a segment of an expert's trajectory; allowed: with teacher.kind {needs}"
    if recipe.get("iterations") and not recipe["objectives"]:
        yield "objectives: missing; give at least one, or iterations 0"
    if recipe["objectives"]:
        yield from _rates(recipe)


def _section(section: str, kind: str | None, settings: Mapping[str, Any], key: str) -> Iterator[str]:
    at = key if section == "objectives" else f"{key}.kind"
    if kind is None:
        yield f"{at}: missing{schema.allowed('', kinds.names(section))}"
    elif kind not in kinds.names(section):
        yield f"{at}: {kinds.unknown(section, kind)}"
    else:
        yield from schema.mistakes(settings, kinds.settings(section, kind), key)


def _rates(recipe: Mapping[str, Any]) -> Iterator[str]:
    """Learning rates that are missing for a group of learned numbers, and those for a group that no kind has."""
    stored = kinds.fact("parametrisation", recipe["parametrisation"].get("kind", ""), "GROUPS")
    if not stored:
        return
    groups = [*stored, *(group for kind in recipe["objectives"] for group in kinds.fact("objectives", kind, "GROUPS"))]
    everyones = [kinds.fact(section, kind, "GROUPS") for section in ("parametrisation", "objectives") for kind in kinds.names(section)]
    known = list(dict.fromkeys(f"lr_{group}" for some in everyones for group in some))
    given = [key for key in recipe["optimiser"] if key.startswith("lr_")]
    yield from (f"optimiser.{key}: unknown key{schema.allowed(key, known)}" for key in given if key not in known)
    missing = [group for group in groups if f"lr_{group}" not in given]
    yield from (f"optimiser.lr_{group}: missing; give the learning rate of the {group}" for group in missing)

"""A study: one config file, checked and completed with defaults, and its jobs.

    python -m esp_core study config/demo.yaml                           the jobs, one a line
    python -m esp_core study config/demo.yaml distill digits 1 esp      the spec of one job, to run it by hand
    python -m esp_core study --settings                                 every key that a study can have

No torch, since the Snakefile imports this.
"""

import argparse
import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from esp_core.datasets import catalogue, folders
from esp_core.runtime.errors import UserError, command
from esp_core.study import checks, configfile, figures, methods, schema
from esp_core.study.methods import FULL


@dataclass(frozen=True)
class Table:
    """What a table shows of a study, in the layout of the paper's table `number`; `measured` methods are run, the others quoted."""

    number: int
    cells: tuple[tuple[str, int], ...]
    methods: tuple[str, ...]
    networks: tuple[str, ...]
    measured: tuple[str, ...]
    title: str = ""

    def rows(self) -> tuple[tuple[str, int, str, str], ...]:
        """(dataset, IPC, method, network) of every measured row; IPC 0 for the complete training set."""
        rows = product(self.cells, self.measured, self.networks)
        return tuple(dict.fromkeys((dataset, 0 if method == FULL else ipc, method, network) for (dataset, ipc), method, network in rows))


class Study:
    """The study described by `config`, the content of a config file. Raises UserError with one line per mistake."""

    def __init__(self, config: Mapping[str, Any]):
        given = _with_text_keys(config)
        checks.refuse(schema.mistakes(given) or checks.unwritable(given))
        self.config: dict[str, Any] = schema.filled(given)
        self.name: str = self.config["study"]
        self.datasets = {name: schema.filled({"kind": name, **settings}, "dataset") for name, settings in self.config["datasets"].items()}
        self.cells = tuple((name, int(ipc)) for name, settings in self.datasets.items() for ipc in settings["ipc"])
        self.methods: dict[str, dict[str, Any]] = {name: settings or {} for name, settings in self.config["methods"].items()}
        self.networks = tuple(self.config["networks"])
        checks.refuse(checks.mistakes(self))
        self.tables = {name: self._table(name, settings or {}) for name, settings in self._tables().items()}
        checks.refuse(figures.mistakes(self))
        self.figures = figures.figures(self)
        checks.refuse(checks.unshown(self))
        checks.refuse(checks.uncompared(self))
        self._epochs_read = dict.fromkeys(self.datasets, 0)
        for dataset, ipc, method in self.condensed():
            self._epochs_read[dataset] = max(self._epochs_read[dataset], methods.last_epoch(self.recipe(dataset, ipc, method)))
        checks.refuse(checks.untrained(self))
        checks.refuse(checks.unfitting(self))

    # Settings of a dataset.

    def flip(self, dataset: str) -> bool:
        """Whether a mirrored image of `dataset` still belongs to its class."""
        settings = self.datasets[dataset]
        known = catalogue.ENTRIES.get(settings["kind"])
        return bool(settings.get("flip", known.flip if known else True))

    def experts(self, dataset: str) -> dict[str, Any]:
        """The section `experts` for `dataset`. `epochs` defaults to the last epoch that a condensed set reads."""
        settings = schema.filled({**self.config["experts"], **self.datasets[dataset].get("experts", {})}, "experts")
        if "epochs" not in settings:
            settings["epochs"] = max(self._epochs_read[dataset] or methods.EXPERT_EPOCHS, settings.get("keep", 0) - 1)
        return {"keep": settings["epochs"] + 1, **settings, "augment": methods.strategy(settings["augment"], self.flip(dataset))}

    def shards(self, dataset: str) -> range:
        """The numbers of the shards with the experts of `dataset`."""
        settings = self.experts(dataset)
        return range(-(-settings["count"] // settings["shard"]))

    def evaluation(self, dataset: str) -> dict[str, Any]:
        """The section `evaluation` for `dataset`."""
        return schema.filled(methods.merge(self.config["evaluation"], self.datasets[dataset].get("evaluation", {})), "evaluation")

    def distill_network(self, dataset: str) -> dict[str, Any]:
        """Name and settings of the network of the experts and of distillation."""
        network, changes = self.config["distill_network"], self.datasets[dataset]["distill_network"]
        return dict(changes if changes.get("name", network["name"]) != network["name"] else {**network, **changes})

    def network(self, dataset: str, name: str) -> dict[str, Any]:
        """Name and settings of a network on which condensed sets are tested."""
        listed, own = self.config["networks"], self.distill_network(dataset)
        if isinstance(listed, dict):
            return {"name": name, **(listed[name] or {})}
        return own if own["name"] == name else {"name": name}

    # Settings of a cell and a method.

    def recipe(self, dataset: str, ipc: int, method: str) -> dict[str, Any]:
        """The recipe of `method` for one cell, completed with defaults. Raises UserError for an unknown method."""
        return methods.recipe(method, dataset, ipc, custom=self.methods, flip=self.flip(dataset))

    def uses_experts(self, dataset: str, ipc: int, method: str) -> bool:
        """Whether this condensed set needs its dataset's expert trajectories."""
        return methods.uses_experts(self.recipe(dataset, ipc, method))

    def is_imported(self, method: str) -> bool:
        """Whether the sets of `method` are read from files."""
        return methods.is_imported(method, self.methods)

    def is_own_format(self, method: str) -> bool:
        """Whether an imported set is a file that this package wrote, which says what its numbers are."""
        given = self.methods[method]["import"]
        return str(given if isinstance(given, str) else given[0]).endswith(".safetensors")

    def files(self, dataset: str, ipc: int, method: str) -> list[Path]:
        """The files of an imported set."""
        given, cell = self.methods[method]["import"], {"{dataset}": dataset, "{ipc}": str(ipc), "{method}": method}
        names = [given] if isinstance(given, str) else given
        return [folders.located(re.sub("|".join(cell), lambda found: cell[found[0]], name)) for name in names]

    # What the study makes.

    def rows(self) -> tuple[tuple[str, int, str, str], ...]:
        """(dataset, IPC, method, network) of every evaluation that a table or Figure 8 shows."""
        own = {dataset: self.distill_network(dataset)["name"] for dataset in self.datasets}
        swept = [(*cell, own[cell[0]]) for figure in self.figures.values() if figure.number == figures.BATCHES for cell in figure.cells]
        return tuple(dict.fromkeys([*(row for table in self.tables.values() for row in table.rows()), *swept]))

    def compared(self) -> tuple[tuple[str, str, str, int, str], ...]:
        """(of, against, dataset, IPC, network) of every comparison for which both methods are evaluated."""
        rows, pairs = self.rows(), [(pair["of"], pair["against"]) for pair in self.config["comparisons"]]
        places = ((*pair, dataset, ipc, network) for pair in pairs for dataset, ipc, method, network in rows if method == pair[0])
        return tuple(one for one in places if (one[2], one[3], one[1], one[4]) in rows)

    def condensed(self) -> tuple[tuple[str, int, str], ...]:
        """(dataset, IPC, method) of every condensed set that is evaluated or shown in a figure."""
        pictured = [cell for figure in self.figures.values() for cell in figure.cells]
        return tuple(dict.fromkeys([*(row[:3] for row in self.rows() if row[2] != FULL), *pictured]))

    def jobs(self) -> Iterator[tuple[str, ...]]:
        """Every job, as its stage and the arguments that identify it, in an order in which they can run."""
        used = tuple(dict.fromkeys(row[0] for row in self.rows()))
        taught = tuple(dict.fromkeys(cell[0] for cell in self.condensed() if self.uses_experts(*cell)))
        taught = tuple(name for name in taught if "import" not in self.experts(name))
        yield from (("download", name) for name in used if catalogue.is_official(self.datasets[name]["kind"]))
        yield from (("prepare", name) for name in used)
        yield from (("trial", name) for name in used)
        yield from (("network", name) for name in taught)
        yield from (("experts", name, str(shard)) for name in taught for shard in self.shards(name))
        yield from (("manifest", name) for name in taught)
        made = ("distill", "import_set")
        yield from ((made[self.is_imported(method)], dataset, str(ipc), method) for dataset, ipc, method in self.condensed())
        yield from (("evaluate", dataset, str(ipc), method, network) for dataset, ipc, method, network in self.rows())
        yield from (("tables", name) for name in self.tables)
        yield from (("footprint", name) for name, figure in self.figures.items() if figure.number == figures.MEMORY)
        yield from (("grids", name) for name, figure in self.figures.items() if figure.is_grid)
        yield from (("plots", name) for name, figure in self.figures.items() if not figure.is_grid)
        moved = [cell[:2] for cell in self.condensed() if not self.is_imported(cell[2]) and self.recipe(*cell)["iterations"]]
        yield from (("losses", dataset, str(ipc)) for dataset, ipc in dict.fromkeys(moved))
        yield from [("comparisons",)] if self.config["comparisons"] else []
        yield ("claims",)
        yield ("settings",)

    def _tables(self) -> dict[str, Any]:
        return self.config.get("tables") or {"1": {}, **({"2": {}} if len(self.networks) > 1 else {})}

    def _table(self, name: str, settings: Mapping[str, Any]) -> Table:
        number = int(name) if name.isdecimal() else settings.get("like", 1)
        datasets, listed = settings.get("datasets", self.datasets), settings.get("methods", self.methods)
        quoted = settings.get("quoted", ()) if self.config["scope"] == "paper" else ()
        own = self.config["distill_network"]["name"]
        networks = self.networks if number in (2, 3) or own not in self.networks else (own,)
        return Table(
            number=number,
            cells=tuple(cell for cell in self.cells if cell[0] in datasets),
            methods=tuple(listed),
            networks=tuple(settings.get("networks", networks)),
            measured=tuple(method for method in listed if method not in quoted),
            title=settings.get("title", ""),
        )


def load(path: str | Path) -> Study:
    """The study of a config file. Raises UserError if the file cannot be read or is wrong."""
    config = configfile.read(path)
    return Study(configfile.anchored(config, {path: config}))


def _with_text_keys(value: Any) -> Any:
    """A copy of a config with all keys as text, since YAML reads a table's number as an integer."""
    if isinstance(value, Mapping):
        return {str(key): _with_text_keys(entry) for key, entry in value.items()}
    return [_with_text_keys(entry) for entry in value] if isinstance(value, list) else value


@command
def main() -> None:
    """Print the jobs of a study, or the spec of one."""
    from esp_core.study import job_specs, listing
    from esp_core.study.provenance import canonical

    parser = argparse.ArgumentParser(prog="python -m esp_core study", description="The jobs of a study, or the spec of one of them.")
    parser.add_argument("config", type=Path, nargs="?", help="a study, such as config/demo.yaml")
    parser.add_argument("job", nargs="*", help="a line of the list, such as: distill digits 1 esp")
    parser.add_argument("--settings", action="store_true", help="print every key that a study can have, instead")
    arguments = parser.parse_args()
    if arguments.settings:
        print("\n".join(listing.lines()))
        return
    if arguments.config is None:
        parser.error("give a study, such as config/demo.yaml")
    study = load(arguments.config)
    jobs = {" ".join(job): job for job in study.jobs()}
    asked = " ".join(arguments.job)
    if not asked:
        print("\n".join(jobs))
    elif asked in jobs:
        print(canonical(job_specs.spec(study, *jobs[asked])))
    else:
        near = "".join(f"did you mean {job}? " for job in difflib.get_close_matches(asked, jobs, 1))
        raise UserError(f"{asked}: no job of study {study.name}; {near}python -m esp_core study {arguments.config} prints its jobs")

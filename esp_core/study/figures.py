"""The figures of a study, by the paper's numbers. No torch, since the Snakefile imports this.

Figures 3 to 6 and 9 are grids of synthetic images, Figure 7 is memory against synthetic steps and against IPC, Figure 8 is accuracy
against the synthetic batch. Grids of the study's datasets are always drawn, other figures if the config names them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from esp_core.study import schema
from esp_core.study.methods import FULL

if TYPE_CHECKING:
    from esp_core.study.config import Study

GRIDS = {"svhn": 3, "cifar10": 4, "cifar100": 5, "tinyimagenet": 6}  # the paper's grids, one per dataset
MEMORY, BATCHES, BY_LOSS = 7, 8, 9

Cell = tuple[str, int, str]


@dataclass(frozen=True)
class Figure:
    """`cells`, (dataset, IPC, method), are the condensed sets shown; Figure 7 needs none. `steps` and `at` are for Figure 7."""

    name: str
    number: int | None
    dataset: str
    cells: tuple[Cell, ...] = ()
    ipcs: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    at: int = 1

    @property
    def is_grid(self) -> bool:
        """Whether the figure shows images."""
        return self.number not in (MEMORY, BATCHES)


def figures(study: "Study") -> dict[str, Figure]:
    """The figures of `study` by file name."""
    return {figure.name: figure for figure in (*_grids(study), *_named(study))}


def mistakes(study: "Study") -> Iterator[str]:
    """Mistakes in the section `figures` of a study."""
    wanted = {MEMORY: ("ipc", "steps", "methods"), BATCHES: ("ipc", "methods"), BY_LOSS: ("methods",)}
    for text, settings in study.config.get("figures", {}).items():
        key, number, dataset = f"figures.{text}", int(text), settings["dataset"]
        if unknown := list(schema.strangers(f"{key}.dataset", [dataset], study.datasets)):
            yield from unknown
            continue
        if number != MEMORY:
            yield from schema.strangers(f"{key}.ipc", settings.get("ipc", []), study.datasets[dataset]["ipc"])
        yield from schema.strangers(f"{key}.methods", settings.get("methods", []), [name for name in study.methods if name != FULL])
        yield from (f"{key}.{name}: missing; give it" for name in wanted.get(number, ()) if name not in settings)
        own = study.distill_network(dataset)["name"]
        if number == BATCHES and own not in study.networks:
            yield f"{key}: accuracies are those of the distillation's network, {own}; add it to networks"


def _grids(study: "Study") -> Iterator[Figure]:
    """One grid for each dataset of the first table."""
    named = study.config.get("figures", {}).items()
    asked: dict[str, tuple[int | None, Mapping[str, Any]]] = {s["dataset"]: (int(n), s) for n, s in named if int(n) in GRIDS.values()}
    rows = study.tables[min(study.tables)].rows()
    cells = tuple(dict.fromkeys(row[:3] for row in rows if row[2] != FULL))
    for dataset in dict.fromkeys(cell[0] for cell in cells):
        number, settings = asked.get(dataset, (GRIDS.get(dataset), {}))
        name = f"figure{number}" if number else f"grid-{dataset}"
        methods, ipcs = settings.get("methods", study.methods), settings.get("ipc", study.datasets[dataset]["ipc"])
        yield Figure(name, number, dataset, tuple(cell for cell in cells if cell[0] == dataset and cell[1] in ipcs and cell[2] in methods))


def _named(study: "Study") -> Iterator[Figure]:
    for key, settings in study.config.get("figures", {}).items():
        number, dataset = int(key), settings["dataset"]
        if number in GRIDS.values():
            continue
        ipcs, methods = tuple(settings.get("ipc", study.datasets[dataset]["ipc"])), tuple(settings.get("methods", ()))
        cells = () if number == MEMORY else tuple((dataset, ipc, method) for method in methods for ipc in ipcs)
        at = settings.get("at", ipcs[len(ipcs) // 2])
        yield Figure(f"figure{number}", number, dataset, cells, ipcs, methods, tuple(settings.get("steps", ())), at)

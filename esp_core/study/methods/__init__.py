"""The methods by name: recipes, evaluation protocols, and a study's changes to them. No torch: the Snakefile imports this."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from esp_core.runtime.errors import UserError
from esp_core.study import kinds, schema

SECTIONS = ("parametrisation", "teacher", "optimiser")
FULL = "full"  # the complete training set: a name without a recipe
DSA = "color_crop_cutout_flip_scale_rotate"
IMPORTED = {"parametrisation": {"kind": "imported"}, "iterations": 0}  # in place of the recipe of an imported set
EXPERT_EPOCHS = 50  # for a trained network of which only the last snapshot is used; MTT's buffer.py
# The named augmentations, with mirroring and without: "dsa" draws one of six operations (DSA's code); "idc" always applies flip and
# colour, and one of three others (IDC's code, DiffAug).
STRATEGIES = {
    "dsa": (DSA, "color_crop_cutout_scale_rotate"),
    "idc": ("flip+color+crop_scale_rotate", "color+crop_scale_rotate"),
}

Settings = Mapping[str, Any]


@cache
def _file(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load(Path(__file__).with_name(name).read_text(encoding="utf-8")))


def names() -> tuple[str, ...]:
    """The methods with a recipe in recipes.yaml."""
    return tuple(_file("recipes.yaml"))


def recipe(name: str, dataset: str = "", ipc: int = 0, *, custom: Settings | None = None, flip: bool = True) -> dict[str, Any]:
    """The recipe of `name` for one cell, completed with defaults.

    `custom`: a study's `methods`, which may change a recipe or make a new one from a `base`. `flip`: whether a mirrored image still
    belongs to its class; it determines the operations of the augmentation "dsa". Raises UserError for an unknown method.
    """
    merged: dict[str, Any] = {}
    for layer in [IMPORTED] if is_imported(name, custom or {}) else _layers(name, custom or {}, f"{dataset}/{ipc}", ()):
        merged = merge(merged, {k: v for k, v in layer.items() if k not in ("base", "title", "cells")})
    complete = schema.filled(merged, "recipe")
    for section in SECTIONS:
        complete[section] = {**kinds.defaults(section, complete[section].get("kind")), **complete[section]}
    wanted = {kind: settings for kind, settings in complete["objectives"].items() if settings is not None}
    complete["objectives"] = {kind: {**kinds.defaults("objectives", kind), **settings} for kind, settings in wanted.items()}
    return complete | {"augment": strategy(complete["augment"], flip)}


def is_imported(name: str, custom: Settings) -> bool:
    """Whether the sets of a method in a study's `methods` are read from files."""
    return "import" in (custom.get(name) or {})


def _layers(name: str, custom: Settings, cell: str, above: tuple[str, ...]) -> Iterator[Settings]:
    """The layers that make up the recipe `name`, lowest first."""
    if name in above:
        raise UserError(f"methods.{name}.base: goes in a circle, {' > '.join((*above, name))}; end it at a named recipe")
    recipes = _file("recipes.yaml")
    own = custom.get(name) or {}
    extends = own.get("base", name)  # a study's method may have another base than the recipe of the same name
    named = recipes.get(name, {}) if extends == name else {}
    base = named.get("base") if extends == name else extends
    if base:
        if base not in recipes and base not in custom:
            raise UserError(f"methods.{name}.base: {base} is no method; use one of {', '.join([*recipes, *custom])}")
        if is_imported(base, custom):
            raise UserError(f"methods.{name}.base: {base} is imported and has no recipe; name a method that has one")
        yield from _layers(base, custom, cell, (*above, name))
    elif not named and "parametrisation" not in own:
        raise UserError(f"methods.{name}: unknown method; use one of {', '.join((*recipes, FULL))}, or give it a base")
    for layer in (named, own):
        yield layer
        yield (layer.get("cells") or {}).get(cell) or {}


def merge(below: Any, above: Any) -> Any:
    """`above` over `below`, merging mappings key by key; a mapping with another `kind` replaces the one below."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    if "kind" in above and above["kind"] != below.get("kind"):
        return above
    return {**below, **{key: merge(below.get(key), value) for key, value in above.items()}}


def uses_experts(recipe: Settings) -> bool:
    """Whether distillation by `recipe` reads expert trajectories: as teacher, or for the features used by herding."""
    return bool(recipe["teacher"].get("kind") == "experts" or recipe["parametrisation"].get("init") == "herding")


def last_epoch(recipe: Settings) -> int:
    """The last epoch of an expert's trajectory that distillation by `recipe` reads; 0 if it reads none."""
    teacher = recipe["teacher"]
    return int(teacher["start_max"] + teacher["length"]) if teacher.get("kind") == "experts" and recipe["iterations"] else 0


def uses_network(recipe: Settings) -> bool:
    """Whether distillation by `recipe` runs the network at all: for an objective, or for the features used by herding."""
    return bool(recipe["objectives"] or recipe["parametrisation"].get("init") == "herding")


def protocol(name: str, changes: Settings, flip: bool = True) -> dict[str, Any]:
    """The evaluation protocol `name` with its settings changed by `changes`; `flip` as in `recipe`."""
    settings = {"name": name, **_file("protocols.yaml")[name], **changes}
    return settings | {"augment": strategy(settings["augment"], flip)}


def strategy(augment: str, flip: bool) -> str:
    """The operations of "dsa" and "idc" on a dataset; any other strategy is returned as it is."""
    if augment not in STRATEGIES:
        return augment
    mirrored, plain = STRATEGIES[augment]
    return mirrored if flip else plain

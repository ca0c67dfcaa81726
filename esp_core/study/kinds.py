"""The kinds that a study can name, and their settings, which are declared in the signature of a kind's factory.

    def build(task: Task, factor: Annotated[int, ">= 1"] = 2, init: Literal["noise", "random"] = "random") -> Formation:
        '''See `Formation`.

        factor: small images along a side of a stored one; IDC's code
        init: what the small images start from; IDC's code
        '''

Names, types, bounds, choices, defaults and the lines of the docstring are read from the source, without torch; other annotations,
or none, allow any value. Other facts about a kind that a recipe needs are constants of its module:

    GROUPS = ("codes", "decoders")   the groups of stored numbers, each with a learning rate lr_<group>
    TEACHER = "experts"              the teacher that an objective needs
    NEEDS = ("intermediates",)       what an objective needs of the network besides features and a classifier
    WEIGHT = 0.00001                 an objective's weight unless the recipe says so; 1.0 without it
"""

import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from esp_core.runtime.errors import UserError
from esp_core.study import declarations, schema
from esp_core.study.provenance import ROOT


class _Section(NamedTuple):
    package: str
    given: int  # arguments before the settings
    factory: str = "build"


SECTIONS = {
    "parametrisation": _Section("esp_core.parametrisations", 1),
    "teacher": _Section("esp_core.teachers", 1),
    "objectives": _Section("esp_core.objectives", 0),
    "network": _Section("esp_core.networks", 3),
    "dataset": _Section("esp_core.datasets", 1, "read"),
}


@cache
def names(section: str) -> tuple[str, ...]:
    """The kinds of a section: for the optimiser those in the schema, else the modules that have a factory."""
    if section not in SECTIONS:
        return tuple(schema.part(section))
    package, _, factory = SECTIONS[section]
    folder = ROOT.joinpath(*package.split("."))
    return tuple(sorted(path.stem for path in folder.glob("[!_]*.py") if declarations.function(f"{package}.{path.stem}", factory)))


def place(section: str, kind: str) -> tuple[str, str]:
    """The module of a kind and the name of its factory; a network may be an import path, "package.module:factory"."""
    module, colon, factory = kind.partition(":")
    return (module, factory) if colon else (f"{SECTIONS[section].package}.{kind}", SECTIONS[section].factory)


@cache
def settings(section: str, kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind's settings; it allows any settings if the source is not here, as for an installed package."""
    if section not in SECTIONS:
        return schema.part(section, kind)
    found = declarations.function(*place(section, kind))
    if found is None:
        return {"type": "object"}
    declared = declarations.settings(found[0], SECTIONS[section].given + found[1])
    return declared | {"properties": _beside(section, kind) | declared["properties"]}


def _beside(section: str, kind: str) -> dict[str, Any]:
    """The keys that a recipe has for a kind besides its settings."""
    if section == "objectives":
        return {"weight": schema.part("weight") | {"default": fact(section, kind, "WEIGHT", 1.0)}}
    return {"kind": {"type": "string"}} if section in ("parametrisation", "teacher") else {}


@cache
def defaults(section: str, kind: str | None) -> dict[str, Any]:
    """The default settings of a kind; none for an unknown kind."""
    declared = settings(section, kind)["properties"] if kind in names(section) else {}
    return {name: entry["default"] for name, entry in declared.items() if "default" in entry}


@cache
def fact(section: str, kind: str, name: str, otherwise: Any = ()) -> Any:
    """The constant `name` in a kind's module."""
    return declarations.constant(place(section, kind)[0], name, otherwise) if kind in names(section) else otherwise


def unknown(section: str, kind: str) -> str:
    """The message about an unknown kind."""
    more = ", or an import path, package.module:factory" if section == "network" else ""
    return f"{kind} is unknown{schema.allowed(kind, names(section))}{more}"


def check(section: str, kind: str, given: Mapping[str, Any], at: str) -> None:
    """Raise UserError, of one line, for an unknown kind or wrong settings `given`; in the message, `at` precedes their keys."""
    if kind not in names(section) and not (section == "network" and ":" in kind):
        raise UserError(f"{section}: {unknown(section, kind)}")
    if lines := schema.mistakes(given, settings(section, kind)):
        raise UserError("; ".join(f"{at}{line}" for line in lines))


def factory(section: str, kind: str, given: Mapping[str, Any], at: str) -> Any:
    """The factory of a kind, after `check` of the settings."""
    check(section, kind, given, at)
    module, name = place(section, kind)
    return getattr(importlib.import_module(module), name)

"""Every key of a study as text: allowed values, default, meaning and source."""

from collections.abc import Iterator, Mapping
from typing import Any

from esp_core.study import kinds, schema

TITLES = {
    "dataset": "A dataset, under datasets.<name>",
    "network": "distill_network, or a network under networks.<name>; its further settings are below",
    "experts": "experts",
    "evaluation": "evaluation",
    "table": "A table, under tables.<number> or tables.<name>",
    "comparison": "A comparison, in the list comparisons",
    "figure": "A figure, under figures.<number>",
    "method": "A method, under methods.<name>; the settings of its sections are below, by kind",
}
SECTIONS = {
    "parametrisation": "parametrisation.kind: {}",
    "teacher": "teacher.kind: {}",
    "objectives": "objectives.{}",
    "optimiser": "optimiser.kind: {}",
    "dataset": "options of a dataset of kind {}",
    "network": "network {}",
}


def lines() -> Iterator[str]:
    """All keys, by section."""
    yield from _section("A study", schema.whole())
    for name, title in TITLES.items():
        yield from _section(title, schema.part(name))
    for section, title in SECTIONS.items():
        for kind in kinds.names(section):
            yield from _section(title.format(kind), kinds.settings(section, kind))


def _section(title: str, definition: Mapping[str, Any]) -> Iterator[str]:
    keys = definition.get("patternProperties", {}) | definition["properties"]
    yield from [f"\n{title}"] if keys else []
    for key, entry in keys.items():
        whole = schema.resolved(entry)
        if key != "kind" or "description" in whole:
            default = f", default {schema.shown(entry['default'])}" if "default" in entry else ""
            yield f"  {key.strip('^$').replace('[a-z_]+', '<group>')}: {schema.wanted(whole)}{default}\n      {whole['description']}"

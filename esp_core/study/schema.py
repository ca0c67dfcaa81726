"""Applies esp_core/study/schema.yaml: reports the mistakes in a section, one per line, and fills in defaults."""

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend


def _enum(_: Any, values: list[Any], value: Any, __: Any) -> Iterator[ValidationError]:
    if not any(type(value) is type(one) and value == one for one in values):
        yield ValidationError("")


# JSON Schema accepts 5.0 as an integer, and YAML has .nan: neither may enter a spec.
_CHECKER = Draft202012Validator.TYPE_CHECKER.redefine_many(
    {
        "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
        "number": lambda _, value: isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
        "array": lambda _, value: isinstance(value, list | tuple),
    }
)
_Validator = extend(Draft202012Validator, {"enum": _enum}, type_checker=_CHECKER)

_WANTED = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "minItems": "at least {} entry",
    "minProperties": "at least {} entry",
    "uniqueItems": "each entry once",
}


@cache
def whole() -> dict[str, Any]:
    """The schema of a study."""
    return dict(yaml.safe_load(Path(__file__).with_name("schema.yaml").read_text(encoding="utf-8")))


def part(*names: str) -> dict[str, Any]:
    """The definition under `$defs` at `names`; empty if there is none."""
    found = whole()["$defs"]
    for name in names:
        found = found.get(name, {})
    return dict(found)


def mistakes(value: Any, definition: Mapping[str, Any] | None = None, at: str = "") -> list[str]:
    """One line for every mistake in `value` by `definition` or, without it, by the schema of a study; `at` is the key of `value`."""
    checked = {**(whole() if definition is None else definition), "$defs": whole()["$defs"]}
    errors = sorted(_Validator(checked).iter_errors(value), key=lambda e: [str(key) for key in e.absolute_path])
    return [line for error in errors for line in _lines(error, path(at, *error.absolute_path))]


def filled(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """`value` with the defaults of the definition `names`, or of the schema of a study, at this level only."""
    properties = (part(*names) if names else whole())["properties"]
    return {key: entry["default"] for key, entry in properties.items() if "default" in entry} | dict(value)


def path(at: str, *keys: str | int) -> str:
    """A key as messages show it: experts.lr, datasets.digits.ipc[1]."""
    for key in keys:
        at = f"{at}[{key}]" if isinstance(key, int) else f"{at}.{key}" if at else key
    return at


def resolved(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The definition that `entry` refers to, overridden by the entry's own keys."""
    return {**part(*entry["$ref"].split("/")[2:]), **entry} if "$ref" in entry else dict(entry)


def wanted(entry: Mapping[str, Any]) -> str:
    """The allowed values of a key, in words."""
    types = entry.get("type", [])
    kinds = " or ".join(_WANTED[name] for name in ([types] if isinstance(types, str) else types))
    limits = [text.format(entry[name]) for name, text in _BOUNDS.items() if name in entry and name != "uniqueItems"]
    choices = "one of " + ", ".join(map(shown, entry["enum"])) if "enum" in entry else ""
    return ", ".join(filter(None, [choices, kinds, *dict.fromkeys(limits), entry.get("allowed", "")])) or "any value"


def strangers(at: str, names: Iterable[Any], known: Iterable[Any]) -> Iterator[str]:
    """A line for each of `names`, given under the key `at`, that is not `known`."""
    options = list(known)
    yield from (f"{at}: {name} is not in the study{allowed(name, options)}" for name in names if name not in options)


def allowed(name: Any, names: Iterable[Any]) -> str:
    """The end of a message about the unknown `name`: the closest known name, and all of them."""
    options = [str(option) for option in names]
    near = difflib.get_close_matches(str(name), options, 1)
    return (f"; did you mean {near[0]}?" if near else ";") + f" allowed: {', '.join(options) or 'nothing'}"


def _lines(error: ValidationError, key: str) -> Iterator[str]:
    value, limit, schema = error.instance, error.validator_value, dict(cast(Mapping[str, Any], error.schema))
    properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    if error.validator == "additionalProperties":
        known = [*properties, *(pattern.strip("^$").replace("[a-z_]+", "<group>") for pattern in patterns)]
        unknown = [name for name in value if name not in properties and not any(re.search(pattern, name) for pattern in patterns)]
        yield from (f"{path(key, name)}: unknown key{allowed(name, known)}" for name in unknown)
    elif error.validator == "required":
        name = error.message.split("'")[1]
        yield f"{path(key, name)}: missing; give {properties[name]['description']}"
    elif error.validator == "type":
        yield f"{key}: {shown(value)} is not {wanted({'type': limit})}{_advice(value, limit)}"
    elif error.validator == "enum":
        yield f"{key}: {shown(value)} is unknown{allowed(value, ['null' if one is None else one for one in limit])}"
    else:
        text = schema.get("allowed", limit) if error.validator == "pattern" else _BOUNDS[str(error.validator)].format(limit)
        yield f"{key}: {shown(value)} is not allowed; allowed: {text}"


def shown(value: Any) -> str:
    """A value as messages show it."""
    text = {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _advice(value: Any, limit: str | list[str]) -> str:
    types = {limit} if isinstance(limit, str) else set(limit)
    if types == {"string"} and isinstance(value, int | float):
        return "; put it in quotes"
    if isinstance(value, str) and {"number", "integer"} & types:
        try:
            number = float(value)
        except ValueError:
            return ""
        plain = str(int(number)) if number.is_integer() else f"{number:.15f}".rstrip("0")
        return f"; YAML 1.1 reads {value} as text, write {plain}"
    return ""

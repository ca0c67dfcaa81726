"""config/schema.yaml at work: what is wrong with a section, one line a mistake, and the defaults filled in."""

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from esp_core.provenance import ROOT

_NAMES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
# JSON Schema takes 5.0 for an integer and YAML has .nan: neither may reach a spec.
_CHECKER = Draft202012Validator.TYPE_CHECKER.redefine_many(
    {
        "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
        "number": lambda _, value: isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
    }
)
_Validator = extend(Draft202012Validator, type_checker=_CHECKER)


@cache
def whole() -> dict[str, Any]:
    """The schema of a study."""
    return dict(yaml.safe_load((ROOT / "config" / "schema.yaml").read_text(encoding="utf-8")))


def part(*names: str) -> dict[str, Any] | None:
    """The definition under `$defs` that `names` lead to, None where there is none."""
    found: Any = whole()["$defs"]
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found


@cache
def _validator(names: tuple[str, ...]) -> Any:
    if not names:
        return _Validator(whole())
    return _Validator({"$defs": whole()["$defs"], "$ref": "#/$defs/" + "/".join(names)})


def mistakes(value: Any, *names: str, at: str = "") -> list[str]:
    """One line for everything in `value` that the definition `names`, or the whole schema, does not allow; `at` is its key."""
    errors = sorted(_validator(names).iter_errors(value), key=lambda e: [str(p) for p in e.absolute_path])
    return [line for error in errors for line in _lines(error, at)]


def filled(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """`value` with the defaults of the definition `names`, or of the whole schema, on this level."""
    definition = part(*names) if names else whole()
    assert definition is not None
    return {key: entry["default"] for key, entry in definition["properties"].items() if "default" in entry} | dict(value)


def path(at: str, keys: Iterable[Any]) -> str:
    """A key as the messages name it: experts.lr, datasets.digits.ipc[1]."""
    for key in keys:
        at = f"{at}[{key}]" if isinstance(key, int) else f"{at}.{key}" if at else str(key)
    return at


def unknown(what: str, name: Any, allowed: Iterable[str]) -> str:
    """`what` followed by the nearest of the `allowed` names and by all of them."""
    options = sorted(map(str, allowed))
    near = difflib.get_close_matches(str(name), options, 1)
    return what + (f", did you mean {near[0]}?" if near else "") + f" Allowed: {', '.join(options) or 'nothing here'}".replace("? A", "? A")


def _lines(error: ValidationError, at: str) -> Iterator[str]:
    key, value, limit = path(at, error.absolute_path), error.instance, error.validator_value
    if error.validator == "additionalProperties":
        properties = error.schema.get("properties", {})
        patterns = error.schema.get("patternProperties", {})
        groups = [p.strip("^$").replace("[a-z_]+", "<group>") for p in patterns]
        for name in value.keys() - properties.keys():
            if not any(str(name).startswith(g.partition("<")[0]) for g in groups):
                yield f"{path(key, [str(name)])}: unknown key" + unknown("", name, [*properties, *groups])
    elif error.validator == "required":
        missing = [name for name in limit if name not in value]
        yield from (f"{path(key, [name])}: missing; give {_described(error.schema, name)}" for name in missing[:1])
    elif error.validator == "type":
        yield f"{key}: {_shown(value)}, not {_wanted(limit)}{_hint(value, limit)}"
    elif error.validator == "enum":
        yield f"{key}: {value!r} is not allowed" + unknown("", value, limit)
    elif error.validator == "pattern":
        yield f"{key}: {value!r} is not allowed; allowed: {error.schema.get('allowed', limit)}"
    else:
        yield f"{key}: {_bound(error.validator, value, limit)}"


def _described(schema: Mapping[str, Any], name: str) -> str:
    return str(schema.get("properties", {}).get(name, {}).get("description", name))


def _shown(value: Any) -> str:
    kind = {str: "text", bool: "true or false", dict: "a mapping", list: "a list", type(None): "null"}.get(type(value), "a number")
    shown = str(value).lower() if isinstance(value, bool | type(None)) else repr(value)
    return f"{kind} {shown if len(shown) < 40 else shown[:37] + '...'}" if kind not in ("null", "true or false") else shown


def _wanted(limit: Any) -> str:
    return " or ".join(_NAMES[name] for name in ([limit] if isinstance(limit, str) else limit))


def _hint(value: Any, limit: Any) -> str:
    wanted = [limit] if isinstance(limit, str) else limit
    if isinstance(value, str) and {"number", "integer"} & set(wanted):
        try:
            return f"; YAML 1.1 reads {value} as text, write {_plain(float(value))}"
        except ValueError:
            return ""
    return "; put it in quotes" if wanted == ["string"] and isinstance(value, int | float) else ""


def _plain(number: float) -> str:
    return str(int(number)) if number.is_integer() else f"{number:.12f}".rstrip("0")


def _bound(rule: str, value: Any, limit: Any) -> str:
    words = {
        "minimum": "at least {1}",
        "maximum": "at most {1}",
        "exclusiveMinimum": "more than {1}",
        "exclusiveMaximum": "less than {1}",
        "minItems": "at least {1} entry",
        "minProperties": "at least {1} entry",
        "uniqueItems": "each entry once",
    }
    return f"{value!r} is not allowed; allowed: " + words[rule].format(value, limit)

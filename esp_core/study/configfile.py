"""A config file as Python values. Refuses what YAML would drop or misread: a key given twice, 010 as 8."""

import copy
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from esp_core.runtime.errors import UserError
from esp_core.study import schema

# The keys that hold a user's path; * stands for any name.
PATHS = (
    "datasets.*.mirror",
    "datasets.*.options.path",
    *(f"datasets.*.options.{part}.root" for part in ("arguments", "train", "test")),
    "methods.*.import",
    "experts.import",
    "datasets.*.experts.import",
)
_INTEGER, _FLOAT, _TEXT, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "str", "merge"))
# Besides its own errors, PyYAML raises these for a date without a month, a tag that does not fit, a node that contains itself.
_UNREADABLE = (yaml.YAMLError, ValueError, ArithmeticError, LookupError, AttributeError, TypeError, RecursionError)


def read(path: str | Path) -> dict[str, Any]:
    """The content of a config file. Raises UserError, of one line, if it cannot be read or YAML would misread it."""
    try:
        loader = yaml.SafeLoader(Path(path).read_text(encoding="utf-8"))
        node = loader.get_single_node()
        mistakes = list(_mistakes(node, "")) if node else []
        config = None if mistakes else loader.construct_document(node) if node else None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except _UNREADABLE as error:
        raise UserError(f"{path}: no YAML, {' '.join(str(error).split()) or type(error).__name__}") from None
    if mistakes:
        raise UserError(f"{'; '.join(dict.fromkeys(mistakes))}; correct {path}")
    if not isinstance(config, dict):
        raise UserError(f"{path}: a config is a mapping of keys, such as study, datasets and methods")
    return config


def anchored(config: Mapping[str, Any], files: Mapping[str | Path, Mapping[str, Any]]) -> dict[str, Any]:
    """`config`, merged from the contents of `files`, with every relative path made relative to the working folder.

    A path is relative to the folder of the last file that gives it; one that no file gives, as in a module's config, is not changed.
    """
    whole = copy.deepcopy(dict(config))
    for pattern in PATHS:
        for level, key, above in _found(whole, pattern.split("."), ()):
            givers = [path for path, content in files.items() if _at(content, above) == level[key]]
            if givers:
                level[key] = _from(Path(givers[-1]).absolute().parent, level[key])
    return whole


def _found(level: Any, names: list[str], above: tuple[Any, ...]) -> Iterator[tuple[dict[Any, Any], Any, tuple[Any, ...]]]:
    """The values that `names` lead to from `level`: for each the mapping that holds it, its key there, and all keys from the top."""
    for key in level if isinstance(level, dict) else ():
        if names[0] in ("*", key):
            yield from _found(level[key], names[1:], (*above, key)) if len(names) > 1 else [(level, key, (*above, key))]


def _at(level: Any, keys: tuple[Any, ...]) -> Any:
    for key in keys:
        level = level.get(key) if isinstance(level, Mapping) else None
    return level


def _from(folder: Path, value: Any) -> Any:
    """A path, or a list of them; relative ones are taken from `folder`."""
    if isinstance(value, list):
        return [_from(folder, one) for one in value]
    relative = isinstance(value, str) and "://" not in value and not value.startswith("~") and not Path(value).is_absolute()
    return os.path.relpath(folder / value) if relative else value


def refuse_nested(overrides: Mapping[str, Any]) -> None:
    """Raise UserError for a list or mapping in Snakemake's --config, since its numbers and switches arrive as text."""
    for key, value in overrides.items():
        if isinstance(value, Mapping | list):
            raise UserError(f"--config {key}: only plain values, such as seed=1, can be given here; write {key} into the config file")


def _mistakes(node: yaml.Node, at: str) -> Iterator[str]:
    """What YAML would misread in `node`, whose key is `at`."""
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, list[str]] = {}
        for key, _ in node.value:
            lines.setdefault(_name(key), []).append(_line(key))
            if key.tag not in (_TEXT, _INTEGER, _MERGE) or _is_misread(key):
                yield f"{at or 'config'}: the key {_name(key)} on line {_line(key)} is not text for YAML; put it in quotes"
        for name, some in sorted(lines.items(), key=lambda given: int(given[1][-1])):
            if len(some) > 1:
                yield f"{schema.path(at, name)}: given {'twice' if len(some) == 2 else f'{len(some)} times'}, lines {' and '.join(some)}"
        for key, value in node.value:
            yield from _mistakes(value, schema.path(at, _name(key)))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _mistakes(value, schema.path(at, index))
    elif _is_misread(node):
        yield f"{at}: {node.value} on line {_line(node)} is no decimal number for YAML; write it as one, or in quotes"


def _is_misread(node: yaml.Node) -> bool:
    """Whether YAML 1.1 reads the digits as octal or base 60: 010 as 8, 1:30 as 90."""
    if node.tag not in (_INTEGER, _FLOAT):
        return False
    text = node.value.replace("_", "")
    return ":" in text or bool(re.fullmatch(r"[-+]?0[0-7]+", text) and int(text, 8) != int(text))


def _name(key: yaml.Node) -> str:
    if not isinstance(key, yaml.ScalarNode):
        return "?"
    return str(int(key.value.replace("_", ""))) if key.tag == _INTEGER and re.fullmatch(r"[-+]?[\d_]+", key.value) else str(key.value)


def _line(node: yaml.Node) -> str:
    return str(node.start_mark.line + 1)

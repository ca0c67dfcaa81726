"""What a job depends on, as two strings that Snakemake can compare. Standard library only: the Snakefile imports this."""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]  # the folder that holds the package

# Modules that affect messages, refusals or the interface, but never results: editing them reruns nothing. This module is one of them:
# if `canonical` changed its format, every spec would change, and everything would rerun anyway.
NO_EFFECT_ON_RESULTS = frozenset(
    {
        "esp_core",
        "esp_core.runtime.progress",
        "esp_core.runtime.errors",
        *(f"esp_core.study.{name}" for name in ("kinds", "provenance", "schema", "arguments")),
    }
)


def canonical(spec: Any) -> str:
    """`spec` as one sorted JSON string, since Snakemake compares params by value only, without their names.

    Raises ValueError for NaN and infinity, TypeError for anything else that JSON does not have.
    """
    return json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(text: str | bytes) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of `text`."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:16]


def source_digest(*entries: str) -> str:
    """Digest of the modules `entries` and of all first-party modules that they import, directly or indirectly.

    Comments, layout and docstrings do not count. Imports are read statically, so a module that is looked up by name at run
    time (such as a method's objective) must be among `entries`. Raises ModuleNotFoundError.
    """
    seen: dict[str, str] = {}
    todo = list(entries)
    first_party = {entry.partition(".")[0] for entry in entries}
    while todo:
        name = todo.pop()
        parts = name.split(".")
        if parts[0] not in first_party:
            continue
        for i in range(1, len(parts) + 1):
            module = ".".join(parts[:i])
            if module in seen or module in NO_EFFECT_ON_RESULTS or (found := _parsed(module)) is None:
                continue
            seen[module], imports = found
            todo += imports
    if missing := [entry for entry in entries if entry not in seen]:
        raise ModuleNotFoundError(", ".join(missing))
    return digest(canonical(seen))


def module_file(module: str) -> Path | None:
    """The source file of a first-party module, or None."""
    stem = ROOT.joinpath(*module.split("."))
    return next((p for p in (stem.with_suffix(".py"), stem / "__init__.py") if p.is_file()), None)


@cache
def _parsed(module: str) -> tuple[str, tuple[str, ...]] | None:
    path = module_file(module)
    if path is None:
        return None
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    imports = tuple(_imported(tree, package))
    return digest(ast.dump(_without_docstrings(tree))), imports


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            stem = ".".join([*base, node.module] if node.module else base)
            yield stem
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    holders: Iterable[ast.AST] = ast.walk(tree)
    for node in holders:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                node.body = node.body[1:] or [ast.Pass()]
    return tree

"""What a study can name: modules of a package that have a factory. Read without importing them, so torch stays out."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from esp_core.study.provenance import ROOT, module_file


@cache
def names(package: str, factory: str = "build") -> tuple[str, ...]:
    """The modules of `package`, such as "esp_core.objectives", that define the function `factory`."""
    folder = ROOT.joinpath(*package.split("."))
    return tuple(sorted(path.stem for path in folder.glob("[!_]*.py") if _function(f"{package}.{path.stem}", factory)))


@cache
def settings(module: str, factory: str = "build", given: int = 1) -> tuple[str, ...] | None:
    """The names of the settings that `factory` of `module` takes after the first `given` arguments.

    None where that cannot be told: it takes any keyword, or its source is not here (a package of the user's).
    """
    function = _function(module, factory)
    if function is None or function.args.kwarg:
        return None
    return tuple(a.arg for a in [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs][given:])


def unimportable(module: str, attribute: str) -> str:
    """Why `attribute` of `module` cannot be imported, or "" where it can be or nobody can tell without importing it."""
    if not all(part.isidentifier() for part in [*module.split("."), attribute]):
        return "is no import path; write package.module:factory"
    if loaded := sys.modules.get(module):
        return "" if hasattr(loaded, attribute) else f"{module} has no {attribute}; name a function of it"
    try:
        path = _source(module)
    except ModuleNotFoundError as error:
        return f"no module {error.name} in {Path.cwd()} or on PYTHONPATH; correct the name, or put the module there"
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body if path else None
    except (SyntaxError, ValueError) as error:
        return f"{path} is not Python that can be read ({error}); correct it"
    if body is None or attribute in (known := set(_defined(body))) or {"*", "__getattr__"} & known:
        return ""
    return f"{path} defines no {attribute}; name a function of it"


def _source(module: str) -> Path | None:
    """The source of a module that a job could import, None where it has none. Raises ModuleNotFoundError."""
    top, *inner = module.split(".")
    places: list[str] | None = [str(Path.cwd()), *sys.path]
    found = PathFinder.find_spec(top, places) or find_spec(top)
    for part in inner:
        if found is None:
            break
        top, places = f"{top}.{part}", list(found.submodule_search_locations or [])
        found = PathFinder.find_spec(top, places)
    if found is None:
        raise ModuleNotFoundError(name=top)
    return Path(found.origin) if found.origin and found.origin.endswith(".py") else None


def _defined(body: list[ast.stmt]) -> Iterator[str]:
    """The names that statements bind, at any depth; * where that cannot be told."""
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name
            elif isinstance(node, ast.Import | ast.ImportFrom):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


@cache
def _function(module: str, name: str) -> ast.FunctionDef | None:
    path = module_file(module)
    if path is None:
        return None
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return next((node for node in body if isinstance(node, ast.FunctionDef) and node.name == name), None)

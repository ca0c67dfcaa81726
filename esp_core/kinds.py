"""What a study can name: modules of a package that have a factory. Read without importing them, so torch stays out."""

import ast
from functools import cache

from esp_core.provenance import ROOT, module_file


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


@cache
def _function(module: str, name: str) -> ast.FunctionDef | None:
    path = module_file(module)
    if path is None:
        return None
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return next((node for node in body if isinstance(node, ast.FunctionDef) and node.name == name), None)

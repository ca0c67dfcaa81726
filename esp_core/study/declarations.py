"""The arguments of a function as a JSON Schema, read from its source without importing it."""

import ast
import re
import symtable
import sys
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from esp_core.runtime.errors import UserError
from esp_core.study.provenance import module_file

TYPES = {"int": "integer", "float": "number", "str": "string", "bool": "boolean", "dict": "object", "Sequence": "array"}
BOUNDS = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}


def constant(module: str, name: str, otherwise: Any) -> Any:
    """The value of the constant `name` in `module`."""
    for node in _body(module):
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
            return _literal(node.value, otherwise)
    return otherwise


@cache
def function(module: str, name: str) -> tuple[ast.FunctionDef, int] | None:
    """The source of a function and the number of arguments bound by `name = partial(sibling.function, …)`, else 0.

    None if the source is not in this repository, as for an installed package.
    """
    for node in _body(module):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node, 0
        match node:
            case ast.Assign(
                targets=[ast.Name(id=given)],
                value=ast.Call(func=ast.Name(id="partial"), args=[ast.Attribute(value=ast.Name(id=sibling), attr=attribute), *bound]),
            ) if given == name:
                found = function(f"{module.rpartition('.')[0]}.{sibling}", attribute)
                return found and (found[0], len(bound))
    return None


def settings(found: ast.FunctionDef, given: int) -> dict[str, Any]:
    """The schema of all arguments after the first `given`. A default that is not a literal is left to the function."""
    listed = [*found.args.posonlyargs, *found.args.args]
    defaults = [*[None] * (len(listed) - len(found.args.defaults)), *found.args.defaults, *found.args.kw_defaults]
    arguments = list(zip([*listed, *found.args.kwonlyargs], defaults, strict=True))[given:]
    meanings = dict(re.findall(r"^(\w+): (.+(?:\n +.+)*)", ast.get_docstring(found) or "", re.MULTILINE))
    return {
        "type": "object",
        "properties": {
            argument.arg: {"description": " ".join(meanings.get(argument.arg, argument.arg).split())}
            | _of_type(argument.annotation)
            | ({} if (value := _literal(default, ...)) is ... else {"default": value})
            for argument, default in arguments
        },
        "required": [argument.arg for argument, default in arguments if default is None],
        "additionalProperties": found.args.kwarg is not None,
    }


def _literal(node: ast.expr | None, otherwise: Any) -> Any:
    try:
        return otherwise if node is None else ast.literal_eval(node)
    except ValueError:
        return otherwise


def _of_type(annotation: ast.expr | None) -> dict[str, Any]:
    """An annotation as a schema; for unknown ones an empty schema, which allows any value."""
    match annotation:
        case ast.Name(id=name) if name in TYPES:
            return {"type": [TYPES[name]]}
        case ast.BinOp(left=kind, op=ast.BitOr(), right=ast.Constant(value=None)):
            null = {"type": "null", "enum": None}
            return {key: [*value, null[key]] if key in null else value for key, value in _of_type(kind).items()}
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            values = _literal(choices, ())
            return {"enum": [*values] if isinstance(values, tuple) else [values]} if values != () else {}
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, ast.Constant(value=str(bounds))])):
            pairs = re.findall(r"([<>]=?) (-?[\d.]+)", bounds)
            return _of_type(kind) | {BOUNDS[sign]: ast.literal_eval(number) for sign, number in pairs}
        case ast.Subscript(value=ast.Name(id="Sequence"), slice=entry):
            return {"type": ["array"], "items": _of_type(entry)}
        case ast.Subscript(value=kind):
            return _of_type(kind)
    return {}


def unimportable(module: str, attribute: str) -> str:
    """Why `attribute` of `module` cannot be imported; "" if it can, or if only importing it would tell."""
    if not all(part.isidentifier() for part in [*module.split("."), attribute]):
        return "is no import path; write package.module:factory"
    if loaded := sys.modules.get(module):
        return "" if hasattr(loaded, attribute) else f"{module} has no {attribute}; name a function of it"
    try:
        if (path := _source(module)) is None:
            return ""
        text = path.read_text(encoding="utf-8")
        symbols = symtable.symtable(text, str(path), "exec").get_symbols()
    except ModuleNotFoundError as error:
        return f"no module {error.name} in {Path.cwd()} or on PYTHONPATH; correct the name, or put the module there"
    except (SyntaxError, ValueError) as error:
        return f"{path} is not Python that can be read ({error}); correct it"
    bound = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    if {attribute, "__getattr__"} & bound or "import *" in text:
        return ""
    return f"{path} defines no {attribute}; name a function of it"


def _source(module: str) -> Path | None:
    """The source of a module that a job could import; None if it has none. Raises ModuleNotFoundError."""
    top, *inner = module.split(".")
    found = PathFinder.find_spec(top, [str(Path.cwd()), *sys.path]) or find_spec(top)
    for part in inner:
        if found:
            top = f"{top}.{part}"
            found = PathFinder.find_spec(top, list(found.submodule_search_locations or []))
    if found is None:
        raise ModuleNotFoundError(name=top)
    return Path(found.origin) if found.origin and found.origin.endswith(".py") else None


@cache
def _body(module: str) -> list[ast.stmt]:
    path = module_file(module)
    try:
        return ast.parse(path.read_text(encoding="utf-8")).body if path else []
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path} is not Python that can be read ({error}); correct it") from None

"""The arguments that command lines share, `--spec` among them: JSON or a JSON file, in which a missing key gives one line, no KeyError."""

import argparse
import json
from pathlib import Path
from typing import Any

from esp_core.runtime.errors import UserError

PRINT = "print a complete one with python -m esp_core study CONFIG JOB"


class JobSpec(dict[str, Any]):
    """A mapping in a spec, which raises UserError for a missing key."""

    def __missing__(self, key: str) -> Any:
        raise UserError(f"--spec: lacks the key {key}; {PRINT}")


def named(command: str, doc: str | None, **more: Any) -> argparse.ArgumentParser:
    """The command line of `command`, described by the first line of `doc`."""
    return argparse.ArgumentParser(prog=f"python -m esp_core {command}", description=(doc or "").partition("\n")[0], **more)


def parser(stage: str, doc: str | None, out: str, *shared: str) -> argparse.ArgumentParser:
    """The command line of a stage: `--spec`, `--out`, described by `out`, and what else of `add` it takes."""
    made = named(stage, doc)
    add(made, "spec", *shared)
    made.add_argument("--out", type=Path, required=True, help=out)
    return made


def add(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add some of --spec, --data, --code, --device and --no-flip, as all commands have them."""
    shared: dict[str, dict[str, Any]] = {
        "spec": {"type": read, "required": True, "help": "JSON or a file of it, as `python -m esp_core study CONFIG JOB` prints it"},
        "data": {"type": Path, "required": True, "help": "prepared dataset, .h5"},
        "code": {"default": "", "help": "digest of the code that runs, recorded with the result"},
        "device": {"default": "auto", "help": "auto, cpu, mps, cuda or cuda:NUMBER"},
        "no-flip": {"action": "store_true", "help": "a mirrored image is of another class"},
    }
    for name in names:
        parser.add_argument(f"--{name}", **shared[name])


def read(text: str) -> JobSpec:
    """The spec in `text`, which is JSON or the path of a JSON file. Raises UserError if it is neither or not a mapping."""
    where = "--spec"
    if not text.lstrip().startswith(("{", "[")):
        where = f"--spec {text}"
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError, ValueError):
            raise UserError(f"{where}: neither JSON nor a file that holds it; {PRINT}") from None
    try:
        spec = json.loads(text, object_hook=JobSpec)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: no JSON, {error}; {PRINT}") from None
    if not isinstance(spec, JobSpec):
        raise UserError(f"{where}: no mapping of keys; {PRINT}")
    return spec

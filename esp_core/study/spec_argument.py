"""The command line of a job, and the spec that it takes: JSON, or a JSON file. A missing key gives one line, not a KeyError."""

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


def parser(stage: str, doc: str | None, out: str) -> argparse.ArgumentParser:
    """The command line of a stage: `--spec`, and `--out`, described by `out`. The first line of `doc` is its description."""
    made = argparse.ArgumentParser(prog=f"python -m esp_core {stage}", description=(doc or "").partition("\n")[0])
    made.add_argument("--spec", type=read, required=True, help=f"JSON or a file of it, from `python -m esp_core study CONFIG {stage} …`")
    made.add_argument("--out", type=Path, required=True, help=out)
    return made


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

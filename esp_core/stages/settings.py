"""Stage `settings`: write a study's configuration with all defaults, as YAML and as a page of the report.

python -m esp_core settings --spec JSON --out settings.yaml
"""

import html
import json
from pathlib import Path
from typing import Any

import yaml

from esp_core.runtime.errors import command
from esp_core.runtime.files import write
from esp_core.study import arguments


def run(spec: dict[str, Any], out: Path) -> None:
    """Write the config of `spec` to `out`, a .yaml that `snakemake --configfile` accepts, and an .html beside it."""
    text = yaml.safe_dump(json.loads(json.dumps(spec["config"])), sort_keys=False, allow_unicode=True, width=140)
    title = html.escape(f"Configuration of study {spec['config']['study']}")
    head = f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>'
    write(out.with_suffix(".html"), f"{head}\n<h1>{title}</h1>\n<pre>{html.escape(text)}</pre>\n</html>\n")
    write(out, text)


@command
def main() -> None:
    run(**vars(arguments.parser("settings", __doc__, "the configuration, .yaml; .html is written beside it").parse_args()))

"""Tool `watch`: the running jobs of a study, by the last line of progress in each log.

    python -m esp_core watch results/STUDY

A line per job: how far it is, the time left, its loss or accuracy, and the age of that line. A killed job is shown for an hour.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path

from esp_core.runtime.errors import UserError, command
from esp_core.runtime.progress import clock
from esp_core.study import arguments

LINE = re.compile(r".*: (?P<step>(?P<count>\d+)/(?P<total>\d+) \w+), [^,]+, (?P<left>\S+) left(?:, (?P<note>.*))?")  # as Progress writes it
TAIL = 1 << 16  # bytes read from the end of a log
HOUR = 3600.0  # seconds after which an unfinished job counts as ended


def run(folder: Path, now: float) -> str:
    """The unfinished jobs with logs below `folder`, a line each, the latest first. Raises UserError if there is no log."""
    logs = sorted(folder.rglob("*.log"), key=lambda path: -path.stat().st_mtime)
    if not logs:
        raise UserError(f"{folder}: no log below it; give the folder of a study's results or logs")
    rows = [("job", "done", "left", "age", "last"), *(row for path in logs for row in _row(folder, path, now))]
    if len(rows) == 1:
        return f"{folder}: nothing runs; the last line was written {clock(now - logs[0].stat().st_mtime)} ago"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _row(folder: Path, path: Path, now: float) -> Iterator[tuple[str, str, str, str, str]]:
    """The line of the job with the log at `path`; none if it is done, gone, or has reported nothing yet."""
    age = now - path.stat().st_mtime
    if age > HOUR:
        return
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        found = [match for line in file.read().decode(errors="replace").splitlines() if (match := LINE.fullmatch(line))]
    if found and found[-1]["count"] != found[-1]["total"]:
        last = found[-1]
        note = next((match["note"] for match in reversed(found) if match["note"]), "")
        job = path.relative_to(folder).with_suffix("").as_posix().removeprefix("logs/")
        yield job, last["step"], last["left"], clock(age), note


@command
def main() -> None:
    parser = arguments.named("watch", __doc__)
    parser.add_argument("folder", type=Path, help="results/STUDY, or the folder of its logs")
    print(run(parser.parse_args().folder, time.time()))

"""Checkpoint of an evaluation, beside its output: the rows of the seeds that are done."""

import json
from pathlib import Path
from typing import Any

from esp_core.runtime import files

Row = dict[str, Any]


class SeedRows:
    """Rows by seed in the file `path`, one JSON line each. Rows of another job and incomplete lines are dropped."""

    def __init__(self, path: Path, identity: str):
        self.path, self.identity, self.rows = path, identity, dict[int, Row]()
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
            try:
                entry = json.loads(line)
                if entry["identity"] == identity:
                    self.rows[int(entry["row"]["seed"])] = entry["row"]
            except (ValueError, KeyError, TypeError):
                continue

    def add(self, row: Row) -> None:
        """Add `row`; the file is rewritten atomically."""
        self.rows[row["seed"]] = row
        lines = [json.dumps({"identity": self.identity, "row": row}) for row in self.rows.values()]
        files.write(self.path, "\n".join(lines) + "\n")

"""What a killed distillation goes on from: the checkpoint beside its output, with the losses and the seconds so far."""

import json
import time
from pathlib import Path
from typing import Any

from esp_core.runtime import checksummed
from esp_core.study.provenance import digest

CURVE = 100  # points of a curve in the header


class Losses:
    """Values of each objective, without its weight, at some steps: `seen` is a list of (step, {objective: value})."""

    def __init__(self, seen: list[tuple[int, dict[str, float]]]):
        self.seen = seen

    def see(self, step: int, outcome: Any) -> str:
        """Record the values of a step; return them as text."""
        values = {name: float(value) for name, value in outcome.values.items()}
        self.seen.append((step, values))
        return ", ".join(f"{name} {value:.4g}" for name, value in values.items())

    def curves(self) -> dict[str, str]:
        """Up to `CURVE` points for each objective, the last one included, as "step:value" separated by spaces."""
        chosen = self.seen[:: -max(1, -(-len(self.seen) // CURVE))][::-1]
        return {name: " ".join(f"{step}:{values[name]:.4g}" for step, values in chosen) for name in (chosen[0][1] if chosen else ())}


class Clock:
    """Seconds that a job has taken, those of earlier attempts included."""

    def __init__(self, before: float):
        self.before, self.start = before, time.monotonic()
        self.marked = self.start

    def seconds(self) -> float:
        return self.before + time.monotonic() - self.start

    def since_mark(self) -> float:
        return time.monotonic() - self.marked

    def mark(self) -> None:
        self.marked = time.monotonic()


class Checkpoint:
    """The checkpoint beside the output. Snakemake does not know it, so never deletes it. That of another spec, code or data is ignored."""

    def __init__(self, path: Path, identity: str):
        self.path, self.identity = path, digest(identity)

    def save(self, job: Any, seconds: float, losses: Losses) -> None:
        checksummed.write(
            self.path, job.checkpoint(), {"identity": self.identity, "seconds": str(seconds), "losses": json.dumps(losses.seen)}
        )

    def resume(self, job: Any) -> tuple[float, Losses]:
        """Restore `job` if there is a checkpoint of the same job; return the seconds that it took so far, and its losses."""
        if not self.path.exists():
            return 0.0, Losses([])
        try:
            tensors, metadata = checksummed.read(self.path)
        except checksummed.DamagedError as error:
            print(f"{self.path}: damaged ({error}); starting anew", flush=True)
            return 0.0, Losses([])
        if metadata["identity"] != self.identity:
            print(f"{self.path}: belongs to another spec or code version; starting anew", flush=True)
            return 0.0, Losses([])
        job.resume(tensors)
        print(f"resuming at step {job.step}", flush=True)
        return float(metadata["seconds"]), Losses(json.loads(metadata.get("losses", "[]")))

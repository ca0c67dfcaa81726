"""A progress line with rate and time left: rewritten on a terminal, repeated every few seconds in a log."""

import sys
import time
from typing import TextIO


class Progress:
    """Counts the steps of a long loop and reports progress.

    `every` is the least number of seconds between two lines in a log; a terminal is refreshed five times a second.
    `done` is the number of steps that an interrupted job had finished; it counts for the percentage, not for the rate.
    """

    def __init__(self, label: str, total: int, *, done: int = 0, unit: str = "steps", every: float = 10.0, stream: TextIO | None = None):
        self.label, self.total, self.unit = label, total, unit
        self.stream = stream or sys.stderr
        self.count = self.start_count = done
        self.start = self.last = time.monotonic()
        self.every = 0.2 if self.stream.isatty() else every

    def step(self, note: str = "", by: int = 1) -> None:
        """Count `by` steps; `note`, such as the loss, is shown at the end of the line."""
        self.count += by
        now = time.monotonic()
        if now - self.last >= self.every or self.count == self.total:
            self.last = now
            self._print(now, note)

    def _print(self, now: float, note: str) -> None:
        elapsed = max(now - self.start, 1e-9)
        rate = (self.count - self.start_count) / elapsed
        left = (self.total - self.count) / rate if rate else float("inf")
        text = f"{self.label}: {self.count}/{self.total} {self.unit}, {rate:.3g} {self.unit}/s, {clock(left)} left"
        text += f", {note}" if note else ""
        terminal = self.stream.isatty()
        last = self.count >= self.total
        self.stream.write(f"\r\033[K{text}" + ("\n" if last else "") if terminal else f"{text}\n")
        self.stream.flush()


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss; "?" if infinite."""
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

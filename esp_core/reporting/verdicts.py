"""From accuracies to a verdict: differences, their intervals, and whether a claim holds.

Differences are paired by seed if both sides share at least two seeds, else Welch's (Biometrika 34, 1947). A claim holds if
every 95 % interval lies within its region. It does not hold if an interval lies entirely outside; with k comparisons the intervals
for this are at level 1 - 0.05 / k (Bonferroni).
"""

import math
from dataclasses import dataclass

import pandas as pd

HOLDS, FAILS, UNDECIDED, NOT_MEASURED = "holds", "does not hold", "undecided", "not measured"
LEVEL = 0.95
Region = tuple[float, float]


@dataclass(frozen=True)
class Sample:
    """Accuracies of one run in percent: mean, sample standard deviation, number and, if we measured them, values by seed."""

    mean: float
    std: float
    n: int
    by_seed: "pd.Series[float] | None" = None


@dataclass(frozen=True)
class Comparison:
    """An estimate, its standard error (0 if exact, NaN if a single run gives none) and degrees of freedom."""

    name: str
    estimate: float
    error: float = 0.0
    freedom: float = math.inf
    basis: str = "exact"

    def interval(self, level: float = LEVEL) -> Region:
        """The t-interval of the estimate."""
        from scipy.special import stdtrit

        half = float(stdtrit(self.freedom, (1 + level) / 2)) * self.error if self.error else 0.0
        return (self.estimate - half, self.estimate + half)

    def margin(self, allowed: Region) -> float:
        """How far the interval lies inside `allowed`; minus infinity if there is no interval."""
        low, high = self.interval()
        return -math.inf if math.isnan(low) else min(low - allowed[0], allowed[1] - high)


@dataclass(frozen=True)
class Answer:
    """A verdict, the comparison that is least favourable to the claim (NaN if there is none), and the number of comparisons."""

    verdict: str = NOT_MEASURED
    weakest: Comparison = Comparison("", math.nan, basis="")
    comparisons: int = 0

    @property
    def numbers(self) -> tuple[float, float, float]:
        """The estimate and its interval."""
        return (self.weakest.estimate, *self.weakest.interval())


def measured(values: "pd.Series[float]") -> Sample:
    """A sample of accuracies, given by seed."""
    return Sample(float(values.mean()), float(values.std()), len(values), values)


def difference(name: str, one: Sample, other: Sample, relative: bool = False) -> Comparison:
    """The difference of two means in points, or in percent of `other` if `relative`."""
    if one.by_seed is not None and other.by_seed is not None:
        pairs = pd.concat([one.by_seed, other.by_seed], axis=1, join="inner").to_numpy()
        if len(pairs) > 1:
            gains = 100 * (pairs[:, 0] / pairs[:, 1] - 1) if relative else pairs[:, 0] - pairs[:, 1]
            n = len(gains)
            return Comparison(name, float(gains.mean()), float(gains.std(ddof=1)) / math.sqrt(n), n - 1, f"{n} seeds, paired")
    return _welch(name, one, other, relative)


def _welch(name: str, one: Sample, other: Sample, relative: bool) -> Comparison:
    a, b = one.std**2 / one.n, other.std**2 / other.n
    estimate = one.mean - other.mean
    if relative:  # first order in the errors of both means
        scale = 100 / other.mean if other.mean else math.nan
        a, b, estimate = a * scale**2, b * (scale * one.mean / other.mean) ** 2, estimate * scale
    error = math.sqrt(a + b)
    freedom = (a + b) ** 2 / sum(part**2 / (n - 1) for part, n in ((a, one.n), (b, other.n)) if part) if error > 0 else math.inf
    return Comparison(name, estimate, error, freedom, f"{one.n} and {other.n} seeds, Welch")


def decide(comparisons: list[Comparison], allowed: Region) -> Answer:
    """The verdict on a claim that all `comparisons` must support; "not measured" if there are none."""
    if not comparisons:
        return Answer()
    weakest = min(comparisons, key=lambda one: one.margin(allowed))
    strict = [one.interval(1 - (1 - LEVEL) / len(comparisons)) for one in comparisons]
    refuted = any(low > allowed[1] or high < allowed[0] for low, high in strict)
    return Answer(HOLDS if weakest.margin(allowed) >= 0 else FAILS if refuted else UNDECIDED, weakest, len(comparisons))

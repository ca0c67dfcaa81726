"""What decides a claim of the paper: estimates with their intervals, and the verdict that they allow.

The tests, by `kind`, each an estimate or several:

    difference  accuracy of `of` less that of `against`, in points, or in percent of `against` where `relative`
    ordering    accuracy of `of` less that of each method `among` which the cell has, or has to have where `all`, in points
    monotone    accuracy of `of` at each IPC less that at the next smaller one, in points
    batch       accuracy at one synthetic batch less that at another (Figure 8), in points
    flatness    memory of `of` at its largest over that at its smallest, along `over`, steps or ipc (Figure 7)
    growth      last over first memory of `of` along `over`, over the same of `against`

Differences are paired by seed where both sides share two seeds or more; otherwise Welch's (Biometrika 34, 1947). A claim holds where
every 95 % interval lies within what decides it. It does not hold where an interval lies wholly outside; where there are k comparisons
that is asked of intervals at level 1 - 0.05 / k (Bonferroni), since one of many lies outside by chance.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd

from esp_core.study.asking import Key, Question

HOLDS, FAILS, UNDECIDED, NOT_MEASURED = "holds", "does not hold", "undecided", "not measured"
LEVEL = 0.95
Look = Callable[[Key], "Sample | None"]
Region = tuple[float, float]


@dataclass(frozen=True)
class Sample:
    """Accuracies of one row in percent: mean, sample standard deviation, runs, and by seed where we measured them."""

    mean: float
    std: float
    n: int
    by_seed: "pd.Series[float] | None" = None


@dataclass(frozen=True)
class Comparison:
    """An estimate, its standard error (0 where it is exact, NaN where one run gives none) and degrees of freedom."""

    name: str
    estimate: float
    error: float = 0.0
    freedom: float = math.inf
    basis: str = ""

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The t-interval of the estimate."""
        from scipy.special import stdtrit

        if self.error == 0:
            return (self.estimate, self.estimate)
        half = float(stdtrit(self.freedom, (1 + level) / 2)) * self.error
        return (self.estimate - half, self.estimate + half)


@dataclass(frozen=True)
class Answer:
    """A verdict, the comparison that is the hardest for the claim, and how many there were."""

    verdict: str
    weakest: Comparison | None = None
    comparisons: int = 0


def measured(values: "pd.Series[float]") -> Sample:
    """The sample of accuracies indexed by seed."""
    return Sample(float(values.mean()), float(values.std()), len(values), values)


def difference(name: str, one: Sample, other: Sample, relative: bool = False) -> Comparison:
    """One mean less the other, in points, or in percent of the other where `relative`."""
    if one.by_seed is not None and other.by_seed is not None:
        seeds = one.by_seed.index.intersection(other.by_seed.index)
        if len(seeds) > 1:
            return _paired(name, one.by_seed[seeds], other.by_seed[seeds], relative)
    return _welch(name, one, other, relative)


def _paired(name: str, one: "pd.Series[float]", other: "pd.Series[float]", relative: bool) -> Comparison:
    gains = 100 * (one / other - 1) if relative else one - other
    n = len(gains)
    return Comparison(name, float(gains.mean()), float(gains.std()) / math.sqrt(n), n - 1, f"{n} seeds, paired")


def _welch(name: str, one: Sample, other: Sample, relative: bool) -> Comparison:
    a, b = one.std**2 / one.n, other.std**2 / other.n
    estimate = one.mean - other.mean
    if relative:  # first order in the errors of both means
        scale = 100 / other.mean if other.mean else math.nan
        a, b, estimate = a * scale**2, b * (scale * one.mean / other.mean) ** 2, estimate * scale
    error = math.sqrt(a + b)
    freedom = (a + b) ** 2 / sum(part**2 / (n - 1) for part, n in ((a, one.n), (b, other.n)) if part) if error > 0 else math.inf
    return Comparison(name, estimate, error, freedom, f"{one.n} and {other.n} seeds, Welch")


def region(question: Question) -> Region:
    """The values that bear the claim out."""
    ((how, given),) = question.claim["decide"].items()
    value = float(given[question.dataset] if isinstance(given, Mapping) else given)
    return {
        "above": (value, math.inf),
        "below": (-math.inf, value),
        "about": (value / 2, value * 1.5),
        "within": (-value, value),
    }[how]


def decide(comparisons: Iterable[Comparison], allowed: Region) -> Answer:
    """The verdict on a claim that all `comparisons` have to bear out; "not measured" where there are none."""
    listed = list(comparisons)
    if not listed:
        return Answer(NOT_MEASURED)
    weakest = min(listed, key=lambda one: _margin(one.interval(), allowed))
    strict = 1 - (1 - LEVEL) / len(listed)
    if all(_margin(one.interval(), allowed) >= 0 for one in listed):
        verdict = HOLDS
    elif any(low > allowed[1] or high < allowed[0] for low, high in (one.interval(strict) for one in listed)):
        verdict = FAILS
    else:
        verdict = UNDECIDED
    return Answer(verdict, weakest, len(listed))


def _margin(interval: tuple[float, float], allowed: Region) -> float:
    """How far inside `allowed` the interval lies; minus infinity where there is no interval."""
    margin = min(interval[0] - allowed[0], allowed[1] - interval[1])
    return -math.inf if math.isnan(margin) else margin


# The kinds of test. `of` and `against` look up the two sides of a comparison: a quoted number may stand for the second only.


def on_rows(question: Question, of: Look, against: Look) -> list[Comparison]:
    """The comparisons of a test on accuracies; empty where a needed row is missing."""
    return _ROWS[question.kind](question, of, against)


def _difference(question: Question, of: Look, against: Look) -> list[Comparison]:
    test, (ipc,) = question.claim["test"], question.ipcs
    keys = [question.key(test[side], ipc) for side in ("of", "against")]
    one, other = of(keys[0]), against(keys[1])
    what = " - ".join(key[3] if keys[0][0] == keys[1][0] else key[0] for key in keys)
    return [difference(what, one, other, bool(test.get("relative")))] if one and other else []


def _ordering(question: Question, of: Look, against: Look) -> list[Comparison]:
    test, (ipc,) = question.claim["test"], question.ipcs
    one = of(question.key(test["of"], ipc))
    others = {name: against(question.key(name, ipc)) for name in test["among"]}
    if one is None or (test.get("all") and None in others.values()):
        return []
    return [difference(f"{test['of']} - {name}", one, other) for name, other in others.items() if other]


def _monotone(question: Question, of: Look, against: Look) -> list[Comparison]:
    method = question.claim["test"]["of"]
    samples = {ipc: of(question.key(method, ipc)) for ipc in question.ipcs}
    if not all(samples.values()):
        return []
    steps = pairwise((ipc, sample) for ipc, sample in samples.items() if sample)
    return [difference(f"IPC {more} - IPC {fewer}", larger, smaller) for (fewer, smaller), (more, larger) in steps]


_ROWS: dict[str, Callable[[Question, Look, Look], list[Comparison]]] = {
    "difference": _difference,
    "ordering": _ordering,
    "monotone": _monotone,
}


def on_batches(question: Question, figure: pd.DataFrame) -> list[Comparison]:
    """The comparisons of a test on Figure 8's accuracies, one an IPC: columns dataset, ipc, synthetic_batch, mean, std, n."""
    places = {"smallest": 0, "largest": -1, "second_largest": -2}
    ends = [question.claim["test"][side] for side in ("of", "against")]
    found = []
    for ipc, part in figure[figure.dataset == question.dataset].groupby("ipc"):
        rows = part.sort_values("synthetic_batch").to_dict("records")
        if len(rows) > 1:
            one, other = (rows[places[end]] for end in ends)
            larger, smaller = (Sample(row["mean"], row["std"], int(row["n"])) for row in (one, other))
            found.append(difference(f"IPC {ipc}, {one['synthetic_batch']} - {other['synthetic_batch']}", larger, smaller))
    return found


def on_memory(question: Question, figure: pd.DataFrame) -> list[Comparison]:
    """The comparisons of a test on Figure 7's memory, one a device and curve: columns method, ipc, steps, bytes, device."""
    test: Mapping[str, Any] = question.claim["test"]
    curves = _curves(figure, test["of"], test["over"])
    if question.kind == "flatness":
        found = {f"{test['of']} on {place}": max(curve.values()) / min(curve.values()) for place, curve in curves.items()}
    else:
        pairs = {
            place: (curves[place], other) for place, other in _curves(figure, test["against"], test["over"]).items() if place in curves
        }
        grown = {place: _growth(*pair) for place, pair in pairs.items() if len(pair[0].keys() & pair[1].keys()) > 1}
        found = {f"{test['of']} / {test['against']} on {place}": value for place, value in grown.items()}
    return [Comparison(name, value, basis="exact") for name, value in found.items()]


def _growth(one: dict[int, float], other: dict[int, float]) -> float:
    """Last over first of `one`, over the same of `other`, from the first to the last place that both have."""
    places = sorted(one.keys() & other.keys())
    return (one[places[-1]] / one[places[0]]) / (other[places[-1]] / other[places[0]])


def _curves(figure: pd.DataFrame, method: str, over: str) -> dict[str, dict[int, float]]:
    """Bytes along `over`, a curve for each device and value of the other column; only those of two points or more."""
    other = "ipc" if over == "steps" else "steps"
    curves: dict[str, dict[int, float]] = {}
    for row in figure[figure.method == method].to_dict("records"):
        curves.setdefault(f"{row['device']}, {other} {row[other]:g}", {})[int(row[over])] = float(row["bytes"])
    return {place: curve for place, curve in curves.items() if len(curve) > 1}

"""Differences with intervals and the verdicts on them, against scipy's tests and against draws."""

import math

import pandas as pd
import pytest
from scipy import stats

from esp_core.reporting import verdicts
from esp_core.reporting.verdicts import Comparison, Sample


def sample(values):
    return verdicts.measured(pd.Series(values, index=range(len(values))))


def test_welch_where_seeds_differ():
    one, other = [1.0, 2.0, 4.0], [5.0, 4.0, 8.0, 6.5]
    apart = verdicts.difference("", sample(one), Sample(pd.Series(other).mean(), pd.Series(other).std(), 4))
    assert apart.interval() == pytest.approx(tuple(stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)))


def test_seeds_without_a_partner_take_no_part_in_a_paired_difference():
    one = verdicts.measured(pd.Series([1.0, 5.0, 3.0], index=[0, 1, 2]))
    other = verdicts.measured(pd.Series([9.0, 1.5, 4.0], index=[7, 0, 1]))
    found = verdicts.difference("", one, other)
    assert found.estimate == pytest.approx((1.0 - 1.5 + 5.0 - 4.0) / 2) and found.basis == "2 seeds, paired"
    alone = verdicts.difference("", one, verdicts.measured(pd.Series([9.0, 2.0], index=[7, 8])))
    assert alone.basis.endswith("Welch")


def test_a_relative_gain_agrees_with_draws_from_both_means():
    """The interval's error against 200,000 draws of both means, Table 1's ESP and KFS on CIFAR-10."""
    found = verdicts.difference("", Sample(63.0, 0.4, 5), Sample(59.8, 0.5, 5), relative=True)
    one, other = (stats.norm.rvs(m, s / math.sqrt(5), size=200_000, random_state=seed) for seed, m, s in ((0, 63.0, 0.4), (1, 59.8, 0.5)))
    assert found.estimate == pytest.approx(100 * 3.2 / 59.8)
    assert found.error == pytest.approx((100 * (one / other - 1)).std(), rel=0.01)
    by_seed = verdicts.difference("", sample([63.0, 64.0]), sample([60.0, 60.0]), relative=True)
    assert by_seed.estimate == pytest.approx((5.0 + 100 * 4 / 60) / 2)


def interval(low, high):
    return Comparison("", (low + high) / 2, (high - low) / 2 / stats.t.ppf(0.975, 4), 4)


STRICT = stats.t.ppf(1 - 0.05 / 4, 4) / stats.t.ppf(0.975, 4)  # an interval at level 1 - 0.05 / 2 is so much wider


@pytest.mark.parametrize(
    ("intervals", "verdict"),
    [
        ([], "not measured"),
        ([(0.1, 2.0)], "holds"),
        ([(-0.1, 2.0)], "undecided"),
        ([(-2.0, -0.1)], "does not hold"),
        ([(math.nan, math.nan)], "undecided"),
        ([(5.0, 6.0), (4.0, 5.0)], "holds"),
        ([(5.0, 6.0), (-2.0, -0.01)], "undecided"),  # outside at 95 %, but there are two
        ([(5.0, 6.0), (-STRICT * 1.01 - 1, -STRICT * 1.01 + 1)], "does not hold"),
    ],
)
def test_the_verdict_goes_by_where_the_intervals_lie_at_a_level_that_allows_for_their_number(intervals, verdict):
    found = verdicts.decide([interval(*one) for one in intervals], (0, math.inf))
    assert (found.verdict, found.comparisons) == (verdict, len(intervals))
    if len(intervals) == 2:
        assert found.weakest.interval() == pytest.approx(intervals[1])

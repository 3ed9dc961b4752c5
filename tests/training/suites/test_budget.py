"""Whether the budget of false alarms was kept: what is claimed of twenty fleets, and one small fleet judged."""

from __future__ import annotations

import numpy as np
import pytest

from training.suites.budget import BUDGET, budget_fleet, claims, kept
from training.suites.rows import PRODUCT
from training.suites.tally import COLUMNS, Costs
from training.suites.verdict import Measured


def fleet(times: float, days: float = 200_000.0) -> Measured:
    """A fleet with so many healthy days in which the budget was used so many times."""
    sums = np.zeros((1, len(COLUMNS)))
    sums[0, COLUMNS.index("days")] = days
    sums[0, COLUMNS.index("episodes")] = times * BUDGET * days / 1_000
    return Measured(split=0, tallies={(PRODUCT, BUDGET): sums.tolist()}, rankings={}, slices={}, timelines=[])


@pytest.mark.parametrize(("outside", "met"), [([], True), ([2.0, 0.5], True), ([2.0, 0.5, 1.6], False)])
def test_eighteen_fleets_of_twenty_have_to_be_within_the_factor(outside: list[float], met: bool) -> None:
    """Two fleets may use the budget twice or half, three may not; too few alarms are as wrong as too many."""
    share, _ = claims([fleet(times) for times in [*[1.4] * 10, *[0.7] * (10 - len(outside)), *outside]])
    assert share.met == met


def test_a_fleet_with_few_episodes_shows_nothing() -> None:
    """With fewer than 100 episodes expected the claim fails, however well the budget was kept."""
    assert claims([fleet(1.0, days=100_000.0)])[1].met
    assert not claims([fleet(1.0), fleet(1.0, days=99_000.0)])[1].met


def test_a_fleet_is_judged_on_vehicles_and_a_year_that_were_not_trained_on() -> None:
    """Of so many vehicles, for at most a year; beside the product stand the rows without it, each at the budget."""
    measured = budget_fleet(7, 20, Costs())
    found = kept(measured)
    assert 0 < found.expected <= 20 * 365 * BUDGET / 1_000
    assert all(len(own) <= 20 for own in measured.tallies.values())
    assert {"product", "random", "Gaussian, frozen", "naive adaptive", "always alarm"} <= {
        row for row, _ in measured.tallies
    }
    assert measured.validation[PRODUCT, BUDGET] >= 0
    assert any(name.startswith("14 days after service") for name in measured.slices)

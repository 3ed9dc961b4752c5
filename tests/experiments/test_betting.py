"""The betting sequence: wide at first, narrower with every outcome, exact for outcomes between 0 and 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.experiments.betting import interval, log_capital, stakes


def draw(count: int, control: float, treatment: float, share: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes with these probabilities, and who was treated."""
    rng = np.random.default_rng(1)
    treated = rng.random(count) < share
    return (rng.random(count) < np.where(treated, treatment, control)).astype(float), treated


def test_without_outcomes_everything_is_possible() -> None:
    """From -1 to 1."""
    assert interval(np.zeros(0), np.zeros(0, bool), 0.5, 0.05) == (-1.0, 1.0)


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_it_holds_the_difference_and_excludes_none(share: float) -> None:
    """3,000 vehicles, 90 against 60 %: the interval is below zero, and narrower than with 300 of them."""
    outcomes, treated = draw(3_000, 0.9, 0.6, share)
    low, high = interval(outcomes, treated, share, 0.05)
    assert low < -0.3 < high < 0.0
    few = interval(outcomes[:300], treated[:300], share, 0.05)
    assert few[1] - few[0] > high - low


@settings(max_examples=30, deadline=None)
@given(outcome=st.floats(0, 1), treated=st.booleans(), share=st.floats(0.05, 0.95))
def test_stakes_lie_between_0_and_1(outcome: float, treated: bool, share: float) -> None:
    """Whatever the outcome, arm and share: else the bets could lose more than there is."""
    stake = float(stakes(np.array([outcome]), np.array([treated]), share)[0])
    assert -1e-12 <= stake <= 1 + 1e-12


def test_the_bets_earn_nothing_on_average_under_the_null() -> None:
    """The mean capital over all coins of ten throws is what was there: 1."""
    ways = np.array([[way >> place & 1 for place in range(10)] for way in range(1_024)], float)
    earned = [np.exp(log_capital(way, np.array([0.5]), 0.05)[-1, 0]) for way in ways]
    assert np.mean(earned) == pytest.approx(1.0)


def test_an_outcome_outside_is_refused() -> None:
    """Two faults of one vehicle are no outcome of a share."""
    with pytest.raises(ValueError, match="must lie in 0 to 1"):
        interval(np.array([2.0]), np.array([True]), 0.5, 0.05)

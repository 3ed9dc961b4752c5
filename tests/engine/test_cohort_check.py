"""Which cohort moved while the others did not: what moves all, or sends all apart, is no defect."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.engine.cohort_check import distances, unlike, why_off
from anomaly.engine.cohorts import Merged
from anomaly.engine.model import Checks
from tests.engine import world

SPREAD = np.full(3, 0.1)
SIX = np.array(
    [[0.0, 0.1, 0.0], [0.1, 0.0, -0.1], [0.0, 0.0, 0.1], [-0.1, 0.1, 0.0], [0.0, -0.1, 0.0], [0.1, 0.0, 0.0]]
)


@given(moved=st.lists(st.integers(-40, 40), min_size=3, max_size=3))
def test_what_moves_all_cohorts_alike_moves_none(moved: list[int]) -> None:
    """A season of any size that all cohorts share changes no distance."""
    season = np.array(moved) * 0.125
    assert distances(SIX + season, SPREAD) == pytest.approx(distances(SIX, SPREAD), abs=1e-9)


def test_one_cohort_of_six_stands_out() -> None:
    """The one that moves is far off, and moves none of the others across the line."""
    medians = SIX.copy()
    medians[2, 1] += 2.0
    found = distances(medians, SPREAD)
    assert found[2] > 8
    assert np.delete(found, 2).max() < 2


def test_a_season_that_sends_all_apart_counts_less_than_a_defect() -> None:
    """The same distance from the median is less where the other cohorts are scattered."""
    calm, apart = SIX.copy(), SIX.copy()
    calm[2, 1] += 1.0
    apart[:, 1] = [1.0, 1.1, 1.0, -1.0, -1.1, 0.0]
    assert distances(apart, SPREAD).max() < distances(calm, SPREAD)[2] / 2


def test_of_two_cohorts_none_is_judged() -> None:
    """With fewer than three cohorts that have data in a signal nothing is said, and unknown signals are left out."""
    medians = np.full((4, 3), np.nan)
    medians[:2] = SIX[:2]
    assert np.isnan(distances(medians, SPREAD)).all()
    medians[2, 0] = 3.0
    found = distances(medians, SPREAD)
    assert np.isnan(found[3])
    assert found[2] == pytest.approx(3.0 / math.hypot(0.1, 1.4826 * 0.1), rel=0.05)


def test_the_level_is_in_thresholds_and_the_shares_sum_to_one() -> None:
    """A model without the check says 0 of everybody; with it, level 1.0 is its own threshold."""
    medians = SIX.astype(np.float32)
    medians[0, 0] = 2.0
    merged = Merged(3, list("abcdef"), medians)
    found = unlike(merged, Checks(cohort=5.0, cohort_spread=(0.1, 0.1, 0.1)))
    assert found.level[0] == pytest.approx(distances(medians.astype(np.float64), SPREAD)[0] / 5.0)
    assert found.share.sum(axis=1) == pytest.approx(np.ones(6))
    assert found.share[0].argmax() == 0
    assert not unlike(merged, Checks()).level.any()


def test_a_check_that_is_off_is_said_where_it_was_asked_for() -> None:
    """The sentence comes with cohorts, a share of the budget, and a model without a threshold; else none."""
    assert "fewer than 3 cohorts" in why_off(world.fleet(), None)
    assert why_off(world.fleet(), math.inf)
    assert not why_off(world.fleet(), 4.0)
    assert not why_off(world.fleet(world.FLEET.replace('cohort = ["type"]', "")), None)

"""Numbers that belong to a counter are as random as numbers that come one after the other."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from anomaly.simulator.streams import normal, quantile, uniform

KEY = np.uint64(0x1234_5678_9ABC_DEF0)


@pytest.mark.parametrize("p", [1e-9, 1e-4, 0.02, 0.3, 0.5, 0.9, 0.99, 1.0 - 1e-6])
def test_quantile_is_that_of_the_normal_distribution(p: float) -> None:
    """The approximation agrees with the standard library's exact quantile."""
    assert quantile(p) == pytest.approx(NormalDist().inv_cdf(p), rel=2e-9, abs=1e-9)


def test_numbers_are_uniform_and_unrelated() -> None:
    """Over counters and over lanes the numbers fill (0, 1) evenly, without correlation between neighbours."""
    drawn = np.array([[uniform(KEY, when, lane) for lane in range(8)] for when in range(4_000)])
    counts = np.histogram(drawn, bins=20, range=(0.0, 1.0))[0]
    expected = drawn.size / 20
    assert ((counts - expected) ** 2 / expected).sum() < 50.0
    related = [np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1], np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]]
    assert np.abs(related).max() < 0.06


def test_keys_have_nothing_to_do_with_each_other() -> None:
    """Two vehicles' numbers of the same time are unrelated; a number asked for again is the same."""
    one, other = (np.array([normal(np.uint64(key), when, 3) for when in range(3_000)]) for key in (7, 8))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.07
    assert abs(one.std() - 1.0) < 0.05
    assert normal(np.uint64(7), 11, 3) == one[11]

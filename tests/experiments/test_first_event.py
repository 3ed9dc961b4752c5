"""The first-event e-process: exact, the same as an independent implementation, and only harmed by harm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.experiments.first_event import SPLIT_MASS, Prior, log_e, log_e_harm, log_e_split

SAVVI = [
    (0.5, 1_200.0, [(600, 700), (10, 30), (500, 400)], -0.4685538491719009),
    (0.1, 20.0, [(1, 9), (3, 7), (4, 6)], 1.441266619867196),
    (0.5, 20.0, [(12, 3)], 0.9199627873768569),
]
"""Share, weight of the prior, counts by arm in several batches, and ln of what savvi 0.3.1 says of them."""


@pytest.mark.parametrize(("share", "mass", "counts", "expected"), SAVVI)
def test_it_says_what_another_implementation_says(
    share: float, mass: float, counts: list[tuple[int, int]], expected: float
) -> None:
    """savvi's `Multinomial` (Lindon & Malek) with two arms has the same logarithm; written down here."""
    k, n = sum(treated for treated, _ in counts), sum(map(sum, counts))
    assert log_e(k, n, share, Prior.around(share, mass)) == pytest.approx(expected)


def test_savvi_itself_says_so() -> None:
    """Where savvi is installed, it is asked again."""
    savvi = pytest.importorskip("savvi.multinomial")
    for share, mass, counts, expected in SAVVI:
        reference = savvi.Multinomial(0.05, np.array([share, 1 - share]), mass)
        for batch in counts:
            reference.update(np.array(batch))
        assert math.log(reference.odds) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 40), share=st.floats(0.05, 0.95), ratio=st.floats(1.0, 3.0), seen=st.integers(0, 60))
def test_its_mean_under_the_null_never_grows(n: int, share: float, ratio: float, seen: int) -> None:
    """E of all that may come next, weighted by its probability, is what is there; with harm to prove, at most that."""
    k = min(n, seen)
    prior = Prior.around(share)
    now = math.exp(log_e(k, n, share, prior))
    ahead = share * np.exp(log_e(k + 1, n + 1, share, prior)) + (1 - share) * np.exp(log_e(k, n + 1, share, prior))
    assert ahead == pytest.approx(now)
    p0 = share * ratio / (1 - share + share * ratio)
    harm = math.exp(log_e_harm(k, n, share, ratio))
    for p in (p0, share, p0 / 2):
        nexts = [math.exp(log_e_harm(k + one, n + 1, share, ratio)) for one in (0, 1)]
        assert p * nexts[1] + (1 - p) * nexts[0] <= harm * (1 + 1e-9)


def test_less_harm_than_allowed_is_no_evidence() -> None:
    """Half as many events in the treatment, or twice as many where three times are allowed, prove no harm."""
    assert log_e_harm(50, 150, 0.5) < 0
    assert log_e_harm(100, 150, 0.5) > math.log(20)
    assert log_e_harm(100, 150, 0.5, 3.0) < 0


def test_a_broken_split_is_found_and_an_even_one_is_not() -> None:
    """22,000 vehicles at 52/48 are beyond 1 in 1,000; at 50/50 the evidence shrinks."""
    assert log_e_split(11_440, 22_000, 0.5) > math.log(1_000)
    assert log_e_split(11_000, 22_000, 0.5) < 0


def test_a_flat_prior_needs_more_vehicles_for_the_split() -> None:
    """The reason for Beta(600, 600): at the same split it has more evidence than Beta(1, 1)."""
    chosen = log_e(11_440, 22_000, 0.5, Prior.around(0.5, SPLIT_MASS))
    assert chosen > log_e(11_440, 22_000, 0.5, Prior(1.0, 1.0)) + 1

"""The threshold chosen from a budget, against counting it the slow way."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.figures import episode_starts
from training.threshold import choose_k


def episodes(level: np.ndarray, codes: np.ndarray, rank: np.ndarray, k: float, gap: int) -> int:
    """Episodes of `level` > k, counted anew."""
    return len(episode_starts(codes, rank, level > k, gap))


@given(seed=st.integers(0, 10**6), gap=st.integers(1, 5), allowed=st.integers(0, 12), levels=st.integers(2, 40))
def test_k_keeps_the_budget_and_so_does_every_larger_one(seed: int, gap: int, allowed: int, levels: int) -> None:
    """At k and above the episodes stay within the budget, and at the next level below it they do not."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(4), 30)
    rank = np.tile(np.arange(30), 4)
    level = (rng.integers(1, levels, 120) / 8).astype(np.float32)
    k = choose_k(level, codes, rank, gap, allowed)
    for larger in [k, *np.unique(level[level > k]).tolist()]:
        assert episodes(level, codes, rank, larger, gap) <= allowed
    below = level[level < k]
    if len(below):
        smaller = np.nextafter(below.max(), np.float32(0))
        assert episodes(level, codes, rank, float(smaller), gap) > allowed


def test_a_budget_of_nothing_puts_k_above_every_healthy_level() -> None:
    """No episode is allowed: no healthy reading alarms."""
    level = np.array([1.0, 3.0, 2.0], np.float32)
    assert choose_k(level, np.zeros(3, np.int64), np.arange(3), 1, 0) > 3.0
    assert choose_k(level - 1, np.zeros(3, np.int64), np.arange(3), 1, 9) > 0.0

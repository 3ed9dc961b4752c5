"""The benchmark's scoring, on cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from training.suites.nab_score import PROFILES, mark, normalised, probation, raw_score, sigmoid, sweep

STANDARD = PROFILES["standard"]
TS = np.arange(1_000)
WINDOW = (500, 599)


def alarms(*points: int) -> np.ndarray:
    """Scores of 1 at these points, else 0."""
    score = np.zeros(len(TS))
    score[list(points)] = 1.0
    return score


def points(*at: int, profile: str = "standard") -> float:
    """The normalised score of alarms at these points of a series with one window."""
    marked = [mark(TS, [WINDOW])]
    return normalised(raw_score([alarms(*at)], marked, PROFILES[profile], 0.5), marked, PROFILES[profile])


@pytest.mark.parametrize("profile", PROFILES)
def test_no_alarm_is_0_and_perfect_is_100(profile: str) -> None:
    """The two ends of the scale, in each profile."""
    assert points(profile=profile) == 0.0
    assert points(500, profile=profile) == pytest.approx(100.0)


def test_only_the_first_alarm_of_a_window_counts() -> None:
    """Later alarms in a window add nothing; a late first one is worth less, and the last point is worth little."""
    assert points(500, 520, 599) == points(500)
    assert points(500) > points(550) > points(599) > 0.0
    worth = sigmoid(np.array(-50 / 100)) / sigmoid(np.array(-1.0))
    assert points(550) == pytest.approx(100 * (1 + worth) / 2)


def test_a_false_alarm_costs_its_weight() -> None:
    """Far from a window it costs .11 of a window, just behind one less, twice that where false alarms count double."""
    assert points(500) - points(500, 300) == pytest.approx(100 * 0.11 / 2)
    assert 0 < points(500) - points(500, 601) < 1
    assert points(profile="low_false_positives") - points(300, profile="low_false_positives") == pytest.approx(11.0)
    assert points(300, 301) == pytest.approx(2 * points(300))


def test_a_missed_window_weighs_double_where_misses_count() -> None:
    """With two windows, finding one is worth half; a miss costs twice in the profile of low false negatives."""
    marked = [mark(TS, [WINDOW, (800, 899)])]
    for profile in PROFILES.values():
        raw = raw_score([alarms(500)], marked, profile, 0.5)
        assert raw == pytest.approx(profile.found - profile.missed)


def test_probation_counts_neither_way() -> None:
    """Alarms in the first 15 % change nothing, the next one does."""
    first = probation(len(TS))
    assert first == 150
    assert points(*range(first)) == 0.0
    assert points(first) < 0.0


def test_the_sweep_is_the_score_at_every_threshold() -> None:
    """Each point of the curve is what counting at that threshold gives, ties among the scores included."""
    rng = np.random.default_rng(0)
    scores = [rng.integers(0, 30, 1_000) / 30 for _ in range(2)]
    marked = [mark(TS, [WINDOW, (800, 899)]), mark(TS, [(300, 420)])]
    curve = sweep(scores, marked, STANDARD)
    for threshold, raw in list(zip(curve.threshold, curve.raw, strict=True))[1:]:
        assert raw == pytest.approx(raw_score(scores, marked, STANDARD, threshold))
    assert curve.raw[0] == -3.0
    assert curve.raw[np.flatnonzero(curve.threshold == curve.best)[0]] == curve.raw.max()

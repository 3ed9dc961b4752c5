"""A model is trained again for a reason that can be read."""

from __future__ import annotations

import numpy as np

from training.loop.triggers import Rules, Seen, due, persisting, too_many

RULES = Rules(every_days=28.0, labels=50, drift_days=7)


def test_nothing_is_due_without_a_reason() -> None:
    """Before its time, with few labels and a short drift, nothing is trained."""
    assert due(RULES, Seen(27.9, 49, 6)) is None


def test_each_cause_is_named_with_its_figures() -> None:
    """Schedule, labels and drift each say how much there was and how much is enough."""
    found = [due(RULES, seen) for seen in (Seen(28.0, 0, 0), Seen(1.0, 50, 0), Seen(1.0, 0, 7, "the rate of alerts"))]
    assert [one.cause for one in found if one] == ["schedule", "labels", "drift"]
    assert [one.reason for one in found if one] == [
        "28 days since the last training, one is due every 28",
        "50 labels matured, 50 are enough",
        "the rate of alerts is not what it was, for 7 days; 7 are enough",
    ]


def test_a_trigger_of_zero_is_off() -> None:
    """Nobody trains for a cause that is turned off."""
    assert due(Rules(0.0, 0, 0), Seen(1e6, 10**6, 10**6)) is None


def test_quiet_weeks_are_seldom_taken_for_drift() -> None:
    """Windows at the budget pass the limit about as seldom as it says."""
    counts = np.random.default_rng(0).poisson(7 * 0.5, 20_000)
    assert np.mean([too_many(int(count), 0.5) for count in counts[:4_000]]) < 0.003


def test_drift_persists_from_its_first_day_to_the_last() -> None:
    """Only an unbroken run up to the last day counts, and a storm that ended counts nothing."""
    storm = np.array([0] * 20 + [8] * 5)
    assert persisting(storm, 0.5) == 4
    assert persisting(np.append(storm, [0] * 8), 0.5) == 0

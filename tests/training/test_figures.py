"""The headline figures on hand-made pasts, where the right answer can be counted on fingers."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly import settings
from anomaly.feedback.history import FAULT, HEALTHY, UNKNOWN
from anomaly.fleet import Fleet
from training.figures import Decided, Fault, Figures, headline
from training.train import describe

TEXT = """
[fleet]
name = "f"
vehicle = "v"
time = "t"
time_unit = "cycles"
[signals.a]
[history]
detected_before = 2
[alerts]
gap = 3
"""
FLEET = settings.parse(TEXT, Fleet, "f")


def one_life(*alarms: int, length: int = 40) -> Decided:
    """One vehicle: 20 healthy readings (4 of burn-in), 10 unknown, 10 of fault, with alarms at these places."""
    health = np.repeat([HEALTHY, UNKNOWN, FAULT], [20, 10, 10]).astype(np.int8)[:length]
    alarm = np.isin(np.arange(length), alarms)
    warm = np.arange(length) >= 4
    return Decided(np.zeros(length, np.int64), np.arange(length), alarm, warm, health, [Fault(0, 30, 39)])


def test_alarms_within_the_gap_are_one_false_episode() -> None:
    """Healthy alarms at most `gap` readings apart count once; further apart, again."""
    figures = headline(one_life(6, 9, 13), FLEET)
    assert figures.false_alarm_episodes == 2
    assert figures.healthy_days == 16
    assert figures.false_alarms_per_1000_days == pytest.approx(125.0)
    assert figures.share_vehicles_ever_alarmed == 1.0


def test_an_alarm_of_the_unknown_part_is_no_false_alarm_and_gives_the_lead() -> None:
    """The lead runs from the first alarm after the healthy part to the end of the fault, once it is detected."""
    figures = headline(one_life(22, 33, 36), FLEET)
    assert (figures.false_alarm_episodes, figures.detected) == (0, 1.0)
    assert (figures.lead, figures.lead_running) == (17.0, 6.0)


def test_an_alarm_too_close_to_the_end_does_not_count_as_detected() -> None:
    """Nothing but an alarm inside the fault and early enough detects it; else the lead is 0 and the cost is paid."""
    for late in ((38,), (22,), ()):
        figures = headline(one_life(*late), FLEET)
        assert (figures.detected, figures.lead, figures.cost) == (0.0, 0.0, 500.0)


def test_an_episode_that_ended_before_the_fault_does_gives_no_running_lead() -> None:
    """The stricter reading of lead counts only what still runs at the end."""
    figures = headline(one_life(31, 32), FLEET)
    assert (figures.detected, figures.lead, figures.lead_running) == (1.0, 8.0, 0.0)


def test_burn_in_is_not_divided_by_but_its_alarms_count() -> None:
    """An alarm in burn-in is false although its time is not counted."""
    figures = headline(one_life(1), FLEET)
    assert (figures.false_alarm_episodes, figures.healthy_days) == (1, 16)


def test_random_alarms_are_many_false_alarms_and_always_alarm_is_one_long_one() -> None:
    """Neither control looks good in all figures together."""
    rng = np.random.default_rng(0)
    noisy = headline(one_life(*np.flatnonzero(rng.random(40) < 0.3)), FLEET)
    always = headline(one_life(*range(40)), FLEET)
    assert noisy.false_alarms_per_1000_days > 100
    assert (always.detected, always.share_healthy_time_in_alarm) == (1.0, 20 / 16)


def test_the_order_of_vehicles_in_the_table_does_not_matter() -> None:
    """Interleaved as they arrive or one after the other: the same figures."""
    lives = [one_life(6, 33), one_life(22, 33)]
    both = Decided(
        np.repeat([0, 1], 40),
        *(np.concatenate([getattr(life, name) for life in lives]) for name in ("ts", "alarm", "warm", "health")),
        [Fault(0, 30, 39), Fault(1, 30, 39)],
    )
    order = np.argsort(both.ts, kind="stable")
    mixed = Decided(*(column[order] for column in both[:5]), both.faults)
    assert headline(both, FLEET) == headline(mixed, FLEET)


def test_no_healthy_reading_is_not_called_no_false_alarm() -> None:
    """A past that is shorter than the burn-in says so, and does not show a rate of zero."""
    fleet = settings.parse(
        '[fleet]\nname = "f"\nvehicle = "v"\ntime = "t"\ntime_unit = "cycles"\n[signals.a]\n', Fleet, "f"
    )
    none = Figures(
        vehicles=3,
        healthy_days=0,
        false_alarm_episodes=0,
        false_alarms_per_1000_days=0.0,
        false_alarms_interval=(0.0, 0.0),
        share_vehicles_ever_alarmed=0.0,
        share_healthy_time_in_alarm=0.0,
        faults=0,
        detected=None,
        lead=None,
        lead_running=None,
        cost=0.0,
    )
    assert "not counted" in describe(none, fleet)[0]
    assert "0.00 episodes" not in " ".join(describe(none, fleet))

"""Headline figures vehicle by vehicle, their sums and their bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly import settings
from anomaly.feedback.history import FAULT, HEALTHY, UNKNOWN
from anomaly.fleet import Fleet
from training.figures import Decided, Fault, headline
from training.suites.tally import COLUMNS, Costs, difference, estimates, figures_of, tally

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


def fleet_of_lives(seed: int, vehicles: int = 6) -> Decided:
    """Vehicles with 20 healthy readings (4 of burn-in), 10 unknown and 10 of fault, and alarms at random."""
    rng = np.random.default_rng(seed)
    codes, ts = np.repeat(np.arange(vehicles), 40), np.tile(np.arange(40), vehicles)
    health = np.tile(np.repeat([HEALTHY, UNKNOWN, FAULT], [20, 10, 10]).astype(np.int8), vehicles)
    alarm = rng.random(len(codes)) < np.where(health == FAULT, 0.2, 0.05)
    return Decided(codes, ts, alarm, ts >= 4, health, [Fault(code, 30, 39) for code in range(vehicles)])


def test_the_sum_of_all_vehicles_gives_the_headline_figures() -> None:
    """What is counted vehicle by vehicle comes to the figures of the whole fleet, in whatever order rows are."""
    past = fleet_of_lives(0)
    order = np.random.default_rng(1).permutation(len(past.codes))
    mixed = past._replace(**{name: getattr(past, name)[order] for name in ("codes", "ts", "alarm", "warm", "health")})
    figures, whole = figures_of(tally(mixed, FLEET, Costs()).sum(axis=0), Costs()), headline(past, FLEET)
    assert figures["false_alarms"] == pytest.approx(whole.false_alarms_per_1000_days)
    assert figures["time_in_alarm"] == pytest.approx(whole.share_healthy_time_in_alarm)
    assert figures["detected"] == pytest.approx(whole.detected)
    assert (figures["lead"], figures["lead_running"]) == pytest.approx((whole.lead, whole.lead_running))


def test_a_fault_found_late_costs_the_part_of_the_lead_that_is_lacking() -> None:
    """Found 4 cycles before its end where 8 are needed, a fault costs half of a missed one."""
    ts = np.arange(40)
    health = np.repeat([HEALTHY, FAULT], 20).astype(np.int8)
    past = Decided(np.zeros(40, np.int64), ts, ts == 35, ts >= 4, health, [Fault(0, 20, 39)])
    costs = Costs(10.0, 500.0, 8.0)
    assert figures_of(tally(past, FLEET, costs).sum(axis=0), costs)["cost"] == pytest.approx(250.0)
    assert figures_of(tally(past, FLEET, Costs(lead=4.0)).sum(axis=0), costs)["cost"] == pytest.approx(0.0)


def test_an_interval_holds_the_figure_and_narrows_with_more_vehicles() -> None:
    """The bootstrap draws vehicles: eight times as many make the interval of the false alarms narrower."""
    few, many = (
        estimates([tally(fleet_of_lives(seed, vehicles), FLEET, Costs()) for seed in range(3)], Costs())["false_alarms"]
        for vehicles in (6, 48)
    )
    assert few.low <= few.value <= few.high
    assert many.high - many.low < few.high - few.low


def test_a_row_differs_from_itself_by_nothing_at_all() -> None:
    """Two rows are drawn with the same vehicles, so that the difference of equal rows has no width."""
    own = [tally(fleet_of_lives(seed), FLEET, Costs()) for seed in range(3)]
    better = [table.copy() for table in own]
    for table in better:
        table[:, COLUMNS.index("lead")] += table[:, COLUMNS.index("faults")]
    same, _ = difference(own, own, Costs(), "lead")
    more, won = difference(better, own, Costs(), "lead")
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert (more.low, more.high, won) == (pytest.approx(1.0), pytest.approx(1.0), 3)

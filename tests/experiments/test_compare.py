"""The plain comparison of arms: by vehicle, with what is not known said to be unknown."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.experiments.compare import compare, lines
from tests.experiments.plan import experiment, odd, vehicles


def test_figures_are_ratios_of_sums_by_arm() -> None:
    """Each arm's figures are computed from its own vehicles alone."""
    table = vehicles(400, (1.0, 0.5), (0.9, 0.5))
    control, treatment = compare(experiment(), odd, table).arms
    rows = table.to_pylist()
    even = [row for row in rows if odd(row["vehicle"]) == 0]
    assert (control.arm, control.vehicles, control.vehicle_days) == ("old", 200, 6_000)
    assert control.false_alarms == pytest.approx(
        1_000 * sum(row["false_alarms"] for row in even) / (27 * 200), abs=1e-5
    )
    assert control.detected == pytest.approx(
        sum(row["detected"] for row in even) / sum(row["faults"] for row in even), abs=1e-5
    )
    assert treatment.arm == "new"


def test_harm_is_positive_where_the_treatment_is_worse() -> None:
    """More false alarms and fewer found faults are both harm, and the interval says so."""
    found = compare(experiment(), odd, vehicles(1_000, (0.5, 1.0), (0.9, 0.5)))
    for metric in ("false_alarms", "alerts", "detected", "lead"):
        difference = found.of(metric)
        if metric != "alerts":
            assert difference.low is not None
            assert difference.low > 0
        assert difference.low <= difference.harm <= difference.high


def test_the_interval_covers_nothing_where_there_is_nothing() -> None:
    """Of 20 comparisons of equal arms about 5 % exclude zero: at most 4 here."""
    wrong = 0
    for seed in range(20):
        difference = compare(experiment(), odd, vehicles(300, (0.7, 0.7), (0.8, 0.8), seed)).of("false_alarms")
        assert difference.low is not None
        wrong += not difference.low <= 0 <= difference.high
    assert wrong <= 4


def test_what_cannot_be_divided_is_unknown() -> None:
    """Without faults nothing is known of detection; it is not zero, and not found equal."""
    table = vehicles(100, (1.0, 1.0), (1.0, 1.0))
    table = table.set_column(table.column_names.index("faults"), "faults", [np.zeros(100)])
    found = compare(experiment(), odd, table)
    assert found.arms[0].detected is None
    assert found.of("detected").harm is None
    assert "detected unknown of 0 faults" in "\n".join(lines(found))


def test_vehicles_in_no_arm_are_left_out() -> None:
    """Nobody outside the experiment counts, and an arm without vehicles is said to be empty."""
    found = compare(experiment(), lambda vehicle: odd(vehicle) or None, vehicles(100, (1.0, 1.0), (1.0, 1.0)))
    assert [arm.vehicles for arm in found.arms] == [0, 50]
    assert found.of("false_alarms").low is None


def test_the_same_vehicles_give_the_same_comparison() -> None:
    """The bootstrap is seeded."""
    table = vehicles(200, (1.0, 0.8), (0.9, 0.9))
    assert compare(experiment(), odd, table) == compare(experiment(), odd, table)

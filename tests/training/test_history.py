"""A history holds what was known at its moment, and nothing later."""

from __future__ import annotations

import numpy as np

from anomaly.feedback.history import FAULT, HEALTHY, UNKNOWN
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Label, VehicleEvent
from tests.engine.world import fleet
from training.history import known_at


def archive(count: int = 100) -> Batch:
    """Readings of v at 0, 1, 2, ..."""
    context = {"type": ["t"] * count, "region": [None] * count}
    return Batch.of(["v"] * count, np.arange(count), np.ones((count, 4), np.float32), context, np.arange(count))


def label(start: int, end: int, reported_at: int) -> Label:
    """A confirmed fault of v."""
    return Label(vehicle="v", start=start, end=end, verdict="fault", source="workshop", reported_at=reported_at)


def test_confirmed_fault_periods_are_marked() -> None:
    """Readings of the fault and of the way into it can be told from healthy ones."""
    found = known_at(fleet(), archive(), [], [label(60, 79, 85)], 99)
    assert (found.health[60:80] == FAULT).all()
    assert (found.health[40:60] == UNKNOWN).all()
    assert (found.health[:40] == HEALTHY).all()


def test_labels_readings_and_events_after_the_cutoff_change_nothing() -> None:
    """The set of a cutoff is the same whatever is learned later."""
    early = known_at(fleet(), archive(), [], [label(30, 39, 45)], 50)
    later = [label(30, 39, 45), label(10, 20, 51)]
    late = known_at(fleet(), archive(), [VehicleEvent(id="e", vehicle="v", ts=51, kind="service")], later, 50)
    assert late.batch.ts.tolist() == list(range(51))
    assert late.health.tolist() == early.health.tolist()
    assert (late.faults, late.events) == (early.faults, early.events)

"""The retraining set sees what was known at its moment, and nothing later."""

from __future__ import annotations

import numpy as np

from anomaly.engine.engine import Restart
from anomaly.feedback.history import FAULT, HEALTHY, UNKNOWN
from anomaly.feedback.retraining import training_set
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Label
from tests.engine.world import fleet


def archive(count: int = 100) -> Batch:
    """Readings of v at 0, 1, 2, ..."""
    context = {"type": ["t"] * count, "region": [None] * count}
    return Batch(["v"] * count, np.arange(count), np.ones((count, 4), np.float32), context, np.arange(count))


def label(start: int, end: int, reported_at: int) -> Label:
    """A confirmed fault of v."""
    return Label(vehicle="v", start=start, end=end, verdict="fault", source="workshop", reported_at=reported_at)


def test_confirmed_fault_periods_are_marked() -> None:
    """Readings of the fault and of the way into it can be told from healthy ones."""
    found = training_set(archive(), [label(60, 79, 85)], [], fleet(), 99)
    assert (found.health[60:80] == FAULT).all()
    assert (found.health[40:60] == UNKNOWN).all()
    assert (found.health[:40] == HEALTHY).all()


def test_labels_readings_and_restarts_after_the_cutoff_change_nothing() -> None:
    """The set of a cutoff is the same whatever is learned later."""
    early = training_set(archive(), [label(30, 39, 45)], [], fleet(), 50)
    later = [label(30, 39, 45), label(10, 20, 51)]
    late = training_set(archive(), later, [Restart("e", "v", 51)], fleet(), 50)
    assert late.batch.ts.tolist() == list(range(51))
    assert late.health.tolist() == early.health.tolist()
    assert late.labels == early.labels

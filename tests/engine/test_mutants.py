"""What would otherwise go unseen if a single line of the kernels' state update were missing."""

from __future__ import annotations

import numpy as np

from anomaly.telemetry.batch import Batch
from tests.engine import world


def readings(rows: list[tuple[float, ...]]) -> Batch:
    """Readings of one vehicle, one every ten seconds."""
    count = len(rows)
    context = {"type": ["t0"] * count, "region": [None] * count}
    return Batch.of(
        ["v0"] * count, np.arange(count) * 10, np.array(rows, np.float32), context, np.arange(count, dtype=np.int64)
    )


def test_the_first_value_of_a_vehicle_is_no_step() -> None:
    """A vehicle that was never seen has no last value, however far its first one is from 0."""
    outcome = world.engine().decide(readings([(0.0, 45.0, -5.0, 0.0)]))
    assert outcome.masked["step"] == 0


def test_a_gap_at_the_first_reading_has_nothing_to_repeat() -> None:
    """Where a gap repeats the last value, one in the first reading of a vehicle is a gap: nothing is learned of it."""
    engine = world.engine()
    engine.decide(readings([(0.0, np.nan, -5.0, 0.0)]))
    view = engine.vehicle("v0")
    assert view is not None
    assert view.evidence[1] == 0.0

"""What is told about silences in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from anomaly.engine.layout import Policies, Readings, Settled
from anomaly.engine.outcome import NO_SILENCES, Change, Silences
from anomaly.engine.state import VehicleState


class Unheard(NamedTuple):
    """A vehicle that is silent since `start`, seen after the reading at `row`."""

    row: int
    slot: int
    start: int


def silences(
    readings: Readings, settled: Settled, told: Sequence[Unheard], vehicles: VehicleState, policies: Policies
) -> Silences:
    """Those that readings end or show, and the `told`, in order."""
    count = int(settled.counts[1])
    if not count and not told:
        return NO_SILENCES
    rows = np.concatenate([settled.silence_row[:count], [each.row for each in told]]).astype(np.int64)
    waited = np.arange(len(rows)) >= count
    order = np.argsort(2 * rows + waited, kind="stable")
    slots = np.concatenate([readings.slots[rows[:count]], [each.slot for each in told]]).astype(np.int64)[order]
    start = np.concatenate([settled.silence_start[:count], [each.start for each in told]]).astype(np.int64)[order]
    change = np.concatenate([settled.silence[:count], np.full(len(told), Change.OPEN)]).astype(np.uint8)[order]
    arm = vehicles.arms[slots]
    return Silences(
        row=rows[order],
        vehicle=vehicles.index.names(slots).tolist(),
        change=change,
        start=start,
        end=np.where(change == Change.CLOSED, readings.ts[rows[order]], start),
        waited=waited[order],
        arm=arm,
        limit=policies.k_silence[arm],
    )

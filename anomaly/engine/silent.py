"""Looking for vehicles that have become silent, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.engine import layout
from anomaly.engine.chain import Chain
from anomaly.engine.events import Action
from anomaly.engine.layout import Policies, Readings, Settled
from anomaly.engine.outcome import NO_SILENCES, Change, Silences
from anomaly.engine.state import VehicleState


class Unheard(NamedTuple):
    """A vehicle that is silent since `start`, seen after the reading at `row`."""

    row: int
    slot: int
    start: int


class Watch:
    """Looks for silent vehicles whenever event time has gone on by enough for one more: `grace` ticks at least, and
    half the fleet's rhythm; never, where no arm judges silence."""

    def __init__(self, vehicles: VehicleState, chain: Chain, policies: Policies, grace: int) -> None:
        self._vehicles, self._chain, self._policies, self._grace = vehicles, chain, policies, grace
        self._least = np.min(policies.k_silence, initial=np.float32(np.inf))
        rhythm = vehicles.rhythm
        self._every = max(grace, int(rhythm / 2)) if rhythm > 0 and np.isfinite(self._least) else 0

    def until(self, ts: NDArray[np.int64], first: int, end: int) -> int:
        """The row up to which a pass over [first, end) goes: the first one after which it is time to look."""
        look = self._vehicles.arrays.clock[layout.LOOK]
        if not self._every or ts[first:end].max() < look:
            return end
        return first + int(np.argmax(ts[first:end] >= look)) + 1

    def look(self, row: int, assign: Callable[[NDArray[np.int64]], None]) -> list[Unheard]:
        """Vehicles that have become silent, if it is time to look, which is after the reading at `row`; `assign` gives
        slots their arms. One whose silence is meant is not told: that event takes effect."""
        arrays = self._vehicles.arrays
        clock, now = arrays.clock, int(arrays.clock[layout.NOW])
        if not self._every or now < clock[layout.LOOK]:
            return []
        clock[layout.LOOK] = (now // self._every + 1) * self._every
        before = now - self._grace
        slots = self._vehicles.silent(before, self._least)
        assign(slots)
        found = [Unheard(row, slot, self._vehicles.limit(slot, self._policies)) for slot in slots.tolist()]
        due = [each for each in found if each.start < before]
        self._vehicles.touch(np.array([each.slot for each in due], np.int64))
        told = [each for each in due if not self._excused(each, now)]
        for each in told:
            arrays.u1[each.slot, layout.FLAGS] |= np.uint8(layout.SILENT)
        return told

    def _excused(self, unheard: Unheard, now: int) -> bool:
        """Whether an event that waits for the vehicle means its silence; it takes effect."""
        arrays = self._vehicles.arrays
        event = self._chain.take(int(arrays.i4[unheard.slot, layout.HEAD]), now, unheard.row)
        if event is not None and event.action == Action.RETIRE:
            arrays.u1[unheard.slot, layout.FLAGS] |= np.uint8(layout.RETIRED)
        elif event is not None:
            arrays.u1[unheard.slot, layout.MAINTENANCE] = 1
        return event is not None


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

"""Events that wait for their vehicle's first reading at or after their time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.engine import arrays, layout
from anomaly.engine.events import RESTARTS, Action, Event, Kept
from anomaly.engine.layout import Observed
from anomaly.engine.outcome import Applied

EXCUSES = (Action.RETIRE, Action.BEGIN)
"""Events after which silence is meant: they may wait for a reading that never comes."""
DONE = -1
"""The action of an event that took effect while it still stands in the arrays."""
_NO_ROWS = np.zeros(0, np.int64)
KeptBaseline = Callable[[str, str], Kept | None]


class Chain:
    """The events of each vehicle in order of time, and the arrays that the kernels follow them by.

    `kept` (vehicle, id of an event) answers the baseline before a restart that took effect in an earlier batch.
    """

    def __init__(self, signals: int, kept: KeptBaseline) -> None:
        self._signals, self._kept = signals, kept
        self._waiting: dict[str, list[Event]] = {}
        self._linked: list[Event] = []
        self._headed: list[int] = []
        self._taken: list[tuple[int, Event]] = []
        self.arrays = arrays.waiting([], [], signals)
        self.stale = False
        """Whether `link` has to be called before the next batch."""
        self.changed = False
        """Whether others wait than when this was last set to False."""

    def __len__(self) -> int:
        return len(self._linked)

    def __contains__(self, vehicle: str) -> bool:
        return vehicle in self._waiting

    def add(self, event: Event) -> bool:
        """One event more; False if it waits already."""
        waiting = self._waiting.setdefault(event.vehicle, [])
        if event in waiting:
            return False
        waiting.append(event)
        waiting.sort(key=lambda known: (known.ts, known.id, known.action))
        self.stale = self.changed = True
        return True

    def take(self, place: int, now: int, row: int) -> Event | None:
        """The first event from `place` on that means the silence of its vehicle, at `now` or before; it takes effect
        after the reading at `row` of the batch. Others go on waiting."""
        while place >= 0 and self.arrays.ts[place] <= now:
            event = self._linked[place]
            if event.action in EXCUSES and self.arrays.action[place] != DONE:
                self.arrays.action[place] = DONE
                self._taken.append((row, event))
                return event
            place = int(self.arrays.after[place])
        return None

    def link(self, slot_of: Callable[[str], int | None], heads: NDArray[np.int32]) -> None:
        """Chain the events of each vehicle that is here; `heads` [slots] are where each slot's begin, -1: nowhere."""
        heads[self._headed] = -1
        self._linked, self._headed = [], []
        after: list[int] = []
        for vehicle, events in self._waiting.items():
            slot = slot_of(vehicle)
            if slot is not None:
                first = len(self._linked)
                heads[slot] = first
                self._headed.append(slot)
                self._linked += events
                after += [*range(first + 1, first + len(events)), -1]
        self.arrays = arrays.waiting(self._linked, after, self._signals)
        places = {(event.vehicle, event.id): place for place, event in enumerate(self._linked) if not event.undoes}
        for place, event in enumerate(self._linked):
            if event.undoes:
                self.arrays.undoes[place] = self._undone(event, place, places)
        self.stale = False

    def _undone(self, event: Event, place: int, places: Mapping[tuple[str, str], int]) -> int:
        """Where the baseline stands that an undo puts back: with the restart, if that waits too, else with the undo."""
        if (event.vehicle, event.undoes) in places:
            return places[event.vehicle, event.undoes]
        kept = self._kept(event.vehicle, event.undoes)
        if kept is None:
            return -1
        self.arrays.kept[place] = np.frombuffer(kept.baseline, np.float32)
        self.arrays.kept_ts[place] = kept.ts
        return place

    def applied(self, observed: Observed, count: int) -> Applied:
        """The events that took effect in a batch; they wait no more."""
        if not count and not self._taken:
            return Applied(_NO_ROWS, [], [])
        taken, self._taken = self._taken, []
        found = []
        for row, place in zip(observed.event_row[:count].tolist(), observed.event[:count].tolist(), strict=True):
            event, kept = self._linked[place], b""
            if event.action in RESTARTS and self.arrays.kept_ts[place] != layout.NEVER:
                kept = self.arrays.kept[place].tobytes()
            if self.arrays.action[place] != DONE:
                found.append((row, event, kept))
        found = sorted([*found, *((row, event, b"") for row, event in taken)], key=lambda each: each[0])
        for _, event, _ in found:
            self._forget(event)
        rows = np.array([row for row, _, _ in found], np.int64)
        return Applied(rows, [event for _, event, _ in found], [kept for _, _, kept in found])

    def _forget(self, event: Event) -> None:
        waiting = self._waiting[event.vehicle]
        waiting.remove(event)
        if not waiting:
            del self._waiting[event.vehicle]
        self.stale = self.changed = True

    def saved(self) -> list[tuple[Any, ...]]:
        """All that waits, as tuples."""
        return [tuple(event) for events in self._waiting.values() for event in events]

    def restore(self, saved: Iterable[Sequence[Any]]) -> None:
        """Take over what `saved` gave, in place of what waits."""
        self._waiting = {}
        for name, vehicle, ts, action, signals, undoes, until in saved:
            event = Event(name, vehicle, ts, Action(action), tuple(signals), undoes, until)
            self._waiting.setdefault(event.vehicle, []).append(event)

    def moved(self) -> None:
        """Slots were given anew, and every head is -1."""
        self._headed = []
        self.stale = True

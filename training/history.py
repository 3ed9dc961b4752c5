"""A fleet's past, ready to learn from: readings in order of time, what is known of them, and who is in which part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.engine.events import RESTARTS, Event
from anomaly.errors import DataError
from anomaly.feedback.events import events_of
from anomaly.feedback.history import HEALTHY, Past, health, stretches
from anomaly.feedback.labels import as_of
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.files import inspect_history, read_events, read_labels
from anomaly.telemetry.records import Label, VehicleEvent
from training.figures import Fault

CHUNK = 65_536


class Sources(NamedTuple):
    """Files of a past: readings, and what there is of events and labels."""

    data: Path
    events: Path | None = None
    labels: Path | None = None


class History(NamedTuple):
    """`batch` in stable order of time, `names` its vehicles, `codes` int64[n] their positions in `names`, `health`
    int8[n], the confirmed `faults`, the `events` that act, and `notes` for the person."""

    batch: Batch
    names: list[str]
    codes: NDArray[np.int64]
    health: NDArray[np.int8]
    faults: list[Fault]
    events: list[Event]
    notes: list[str]

    def of(self, vehicles: Sequence[str]) -> History:
        """The part of the history that belongs to `vehicles`; codes keep their meaning."""
        wanted = set(vehicles)
        chosen = np.array([name in wanted for name in self.names])
        rows = np.flatnonzero(chosen[self.codes])
        return self._replace(
            batch=self.batch.take(rows),
            codes=self.codes[rows],
            health=self.health[rows],
            faults=[fault for fault in self.faults if chosen[fault.code]],
            events=[event for event in self.events if event.vehicle in wanted],
        )

    def codes_of(self, vehicles: Sequence[str]) -> NDArray[np.int64]:
        """The codes of `vehicles`, those that are here, ascending."""
        wanted = set(vehicles)
        return np.array([code for code, name in enumerate(self.names) if name in wanted], np.int64)

    def rows(self, chosen: NDArray[np.bool_]) -> History:
        """The readings that are `chosen`, bool[n]; faults and events stay."""
        at = np.flatnonzero(chosen)
        return self._replace(batch=self.batch.take(at), codes=self.codes[at], health=self.health[at])

    def after(self, cuts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which readings come after their vehicle's cut, int64[names]."""
        return np.asarray(self.batch.ts > cuts[self.codes])

    @property
    def restarts(self) -> list[Event]:
        """The events after which a vehicle has another normal."""
        return [event for event in self.events if event.action in RESTARTS]

    def chunks(self, cut: int = 0) -> Iterator[Batch]:
        """The batch in pieces that keep memory small; one begins at the row `cut`."""
        for first, last in ((0, cut), (cut, len(self.batch))):
            for start in range(first, last, CHUNK):
                yield self.batch.rows(start, min(start + CHUNK, last))


def load_history(fleet: Fleet, sources: Sources, strict: bool = False) -> History:
    """Read a past from files. Raises DataError with what is wrong and what to do."""
    read = inspect_history(sources.data, fleet, strict=strict)
    events = read_events(sources.events, fleet) if sources.events else []
    labels = read_labels(sources.labels, fleet) if sources.labels else []
    return make_history(fleet, read.batch, events, labels, read.notes)


def make_history(
    fleet: Fleet, batch: Batch, events: Sequence[VehicleEvent], labels: Sequence[Label], notes: list[str]
) -> History:
    """Put readings, events and labels together; labels of vehicles that are not there are said, not used."""
    names = by_name(set(batch.vehicles))
    position = {name: code for code, name in enumerate(names)}
    codes = np.fromiter(map(position.__getitem__, batch.vehicles), np.int64, len(batch))
    unknown = sorted({label.vehicle for label in labels} - set(position))
    if unknown:
        notes.append(f"labels for {len(unknown)} vehicles that have no reading are not used: {', '.join(unknown[:5])}")
    acts = acts_of(fleet, events, labels)
    restarts = [event for event in acts if event.action in RESTARTS]
    known = [label for label in labels if label.vehicle in position]
    told = (Past(names, codes, batch.ts), known, restarts, fleet.history)
    every = [Fault(position[s.vehicle], s.start, s.end) for s in stretches(*told)]
    faults = _within(every, batch, codes)
    if len(faults) < len(every):
        notes.append(f"{len(every) - len(faults)} labelled faults lie outside the time of these readings")
    if not known and not fleet.history.run_to_failure:
        notes.append("no label and no run_to_failure: every reading counts as healthy")
    return History(batch, names, codes, health(*told), faults, acts, notes)


def known_at(
    fleet: Fleet, readings: Batch, events: Sequence[VehicleEvent], labels: Sequence[Label], cutoff: int
) -> History:
    """The set that a training at `cutoff` may see: readings and events up to then, labels reported by then.

    `readings` are in order of time. Whatever came later changes nothing.
    """
    batch = readings.take(np.flatnonzero(readings.ts <= cutoff))
    past = [event for event in events if event.ts <= cutoff]
    return make_history(fleet, batch, past, as_of(labels, cutoff), [])


def told_by_labels(fleet: Fleet, history: History, labels: Sequence[Label]) -> tuple[Fleet, list[Label]]:
    """A fleet that runs to failure, told by labels: each fault is reported at its end.

    A past that is cut somewhere needs this: a vehicle that goes on after the cut has not failed at it.
    """
    if not fleet.history.run_to_failure:
        return fleet, list(labels)
    failures = [
        Label(
            vehicle=history.names[fault.code],
            start=fault.start,
            end=fault.end,
            verdict="fault",
            reported_at=fault.end,
            source="run to failure",
        )
        for fault in history.faults
    ]
    table = msgspec.structs.replace(fleet.history, run_to_failure=False)
    return msgspec.structs.replace(fleet, history=table), failures


def _within(faults: list[Fault], batch: Batch, codes: NDArray[np.int64]) -> list[Fault]:
    """The faults that the readings could have shown: not over before the vehicle's first, not begun after the last."""
    first = np.full(int(codes.max(initial=-1)) + 1, batch.ts[-1] if len(batch) else 0)
    np.minimum.at(first, codes, batch.ts)
    return [fault for fault in faults if fault.end >= first[fault.code] and fault.start <= batch.ts[-1]]


def acts_of(fleet: Fleet, events: Sequence[VehicleEvent], labels: Sequence[Label]) -> list[Event]:
    """What events and labels do to their vehicles, by the fleet file."""
    records: list[VehicleEvent | Label] = [*events, *labels]
    return [event for record in records for event in events_of(fleet, record)]


def by_name(vehicles: set[str]) -> list[str]:
    """Vehicles in order: as numbers where all of them are numbers, else as text."""
    numbers = all(vehicle.isascii() and vehicle.isdigit() for vehicle in vehicles)
    return sorted(vehicles, key=int) if numbers else sorted(vehicles)


FEWEST_VEHICLES, EARLIER = 5, 0.6
"""With fewer vehicles, all are fitted on up to the end of this share of their healthy readings, and set the threshold
with the later ones."""


class Split(NamedTuple):
    """Vehicles to fit on, to set the threshold with, and to judge with. A split into blocks of time has the same
    vehicles to fit on and to set the threshold with."""

    train: list[str]
    validation: list[str]
    test: list[str]

    @property
    def blocked(self) -> bool:
        """Whether it is each vehicle's time that is divided."""
        return bool(self.train) and self.train == self.validation

    @property
    def notes(self) -> list[str]:
        """What a person is told of the split."""
        if not self.blocked:
            return []
        return [
            f"fewer than {FEWEST_VEHICLES} vehicles: fitted on the first {100 * EARLIER:.0f} % of each one's healthy "
            "readings, and the threshold is set and judged on the later ones: that says nothing of other vehicles"
        ]

    def cuts(self, history: History) -> NDArray[np.int64]:
        """Of each vehicle of a history, int64[names], the time after which readings are of the second part: none of a
        vehicle to fit on, all of one to set the threshold with."""
        ends = np.full(len(history.names), np.iinfo(np.int64).max)
        judged, healthy = set(self.validation), history.health == HEALTHY
        for code, name in enumerate(history.names):
            if name in judged:
                own = history.batch.ts[healthy & (history.codes == code)] if self.blocked else []
                ends[code] = own[int(EARLIER * len(own)) - 1] if len(own) else np.iinfo(np.int64).min
        return ends


def split_vehicles(names: Sequence[str], seed: int, split: int | None) -> Split:
    """75 % to fit and 25 % to validate (by `seed`); with `split`, 60 % and 20 %, and the rest to test.

    Without `split`, fewer than FEWEST_VEHICLES are divided in time. Raises DataError where `split` has too few.
    """
    if split is None and len(names) < FEWEST_VEHICLES:
        return Split(list(names), list(names), [])
    if split is not None and len(names) < FEWEST_VEHICLES:
        raise DataError(f"a split needs at least 5 vehicles, this history has {len(names)}")
    order = np.random.default_rng(seed if split is None else split).permutation(np.array(names, dtype=object))
    first, second = (0.75, 1.0) if split is None else (0.6, 0.8)
    a, b = int(first * len(order)), int(second * len(order))
    return Split(order[:a].tolist(), order[a:b].tolist(), order[b:].tolist())

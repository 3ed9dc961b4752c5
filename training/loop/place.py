"""Where the loop works, and what it finds there."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from anomaly.feedback.archive import reading_batch
from anomaly.feedback.events import EventStore
from anomaly.feedback.labels import LabelStore
from anomaly.fleet import Fleet
from anomaly.lock import OwnerLock
from anomaly.registry.store import Registry
from anomaly.service.rows import LoggedDays, read_archive
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import VehicleEvent
from training.loop.file import LoopFile
from training.loop.machine import Passage, Store
from training.loop.record import Sources


class Place(NamedTuple):
    """Where the loop works: a fleet, its models, its run's folder; and what of its past the run was not told of."""

    fleet: Fleet
    registry: Registry
    run: Path
    file: LoopFile
    history: Batch | None = None
    events: tuple[VehicleEvent, ...] = ()

    @property
    def folder(self) -> Path:
        """Records, candidates and the machine's store."""
        return self.run / "loop"

    def champion(self) -> str:
        """The champion's reference; ModelError if there is none: the first model is a person's."""
        return self.registry.resolve(f"{self.fleet.name}@champion").reference

    @property
    def trail(self) -> list[Passage]:
        """All steps of the loop so far."""
        store = Store(self.folder / "loop.db")
        trail = store.trail()
        store.close()
        return trail

    def promoted_at(self) -> int | None:
        """When the loop last made a champion; None: it did not yet."""
        return max((passage.at for passage in self.trail if passage.left == "promote"), default=None)


def alone(folder: Path) -> OwnerLock:
    """One loop at a time works on a run, whose loop has this folder: passes that a clock begins may last longer than
    its interval. Raises ConfigError, with the other process's id, if somebody else does."""
    folder.mkdir(parents=True, exist_ok=True)
    return OwnerLock(folder / "loop.lock", f"runs the loop of {folder.parent}; wait for it or end it")


def newest(place: Place) -> int | None:
    """The loop's time: that of the newest archived reading; None where nothing was scored yet."""
    return LoggedDays(place.run, place.fleet).newest()


def sources(place: Place) -> Sources:
    """All that there is to learn from: what came before the archive, the archive, events and labels."""
    archived = reading_batch(read_archive(place.run, place.fleet), place.fleet)
    parts = [archived]
    if place.history is not None:
        first = int(archived.ts.min()) if len(archived) else None
        before = np.flatnonzero(place.history.ts < first) if first is not None else np.arange(len(place.history))
        parts = [place.history.take(before), archived]
    batch = Batch.concatenated(parts)
    batch = batch.take(np.argsort(batch.ts, kind="stable"))
    return Sources(batch, events(place), LabelStore(place.run / "labels").read())


def events(place: Place) -> list[VehicleEvent]:
    """The vehicle events that the run was told of, and those that were given, each id once."""
    told = [*EventStore(place.run / "events").read(), *place.events]
    return list({event.id: event for event in reversed(told)}.values())

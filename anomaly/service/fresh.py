"""What a partition has to write down at its next checkpoint."""

from __future__ import annotations

import hashlib

from anomaly.engine.events import Event, Kept
from anomaly.engine.outcome import Applied
from anomaly.service.events import read, written
from anomaly.service.store import PartitionStore
from anomaly.service.stored import Control, Letter
from anomaly.telemetry.batch import Batch


class Fresh:
    """What happened since the last checkpoint; `due_s` is when the next one must be."""

    def __init__(self) -> None:
        self.control: list[Control] = []
        self.letters: list[Letter] = []
        self.unseen: dict[str, list[Event]] = {}
        self.met: list[str] = []
        self.idle: dict[str, bytes] = {}
        self.returned: list[str] = []
        self.readings = 0
        self.changed = False
        self.due_s = float("inf")

    def until(self, due_s: float) -> None:
        """Something changed that has to be written by `due_s`."""
        self.changed = True
        self.due_s = min(self.due_s, due_s)

    def note(self, store: PartitionStore, offset: int, kind: str, payload: bytes) -> None:
        """A row of the control log for all vehicles, unless the last of its kind says the same."""
        digest = hashlib.sha256(payload).hexdigest()
        known = [row for row in self.control if row.kind == kind]
        last = known[-1] if known else store.last_control(kind)
        if last is None or last.digest != digest:
            self.control.append(Control(offset, None, kind, digest, None, payload))

    def log_applied(self, applied: Applied, batch: Batch) -> None:
        """Rows of the control log for events that took effect at readings of `batch`."""
        for row, event, kept in zip(applied.row.tolist(), applied.events, applied.kept, strict=True):
            payload = written(event, kept)
            digest = hashlib.sha256(payload).hexdigest()
            self.control.append(Control(int(batch.offsets[row]), event.vehicle, "event", digest, event.ts, payload))

    def kept(self, vehicle: str, event: str) -> Kept | None:
        """The baseline that a restart ended, None if it is none of these."""
        for row in reversed(self.control):
            if row.kind == "event" and row.vehicle == vehicle:
                found, kept = read(row.payload)
                if found.id == event and kept is not None:
                    return kept
        return None

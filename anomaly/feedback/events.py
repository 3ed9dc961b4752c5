"""What vehicle events and labels do to the engine: the one definition of live scoring and training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from anomaly.engine.events import Action, Event
from anomaly.feedback.journal import Journal
from anomaly.fleet import Fleet
from anomaly.telemetry.decode_records import decode_events
from anomaly.telemetry.records import Label, VehicleEvent

LOOKS_BACK = 1 << 22
"""Bytes: what a scorer may be told a second time after a crash is far less."""

_VERDICTS = {
    "fault": Action.CONFIRM,
    "fixed": Action.ACCEPT,
    "no_fault": Action.DISMISS,
    "normal_since": Action.ACCEPT,
    "unknown": Action.ANSWER,
}


def events_of(fleet: Fleet, record: VehicleEvent | Label) -> list[Event]:
    """What `record` does by the fleet file: an event at its `ts`, a label at its `reported_at`, without that nothing.

    A service, firmware or sensor event starts the baseline again, of the signals that `[baseline.signals]` names for
    it; maintenance lasts from `ts` to `until`, without that to the next restart; an `undo` takes back what `undoes`
    names. A confirmed fault ends learning until it is `fixed`; that and "normal since" accept how the vehicle is
    now, "no fault" only if it is still in the alarm that the label is about. A fault that a restart came after is over,
    however late it is told of. Any label answers a lasting shift.
    """
    return list(_of_event(fleet, record) if isinstance(record, VehicleEvent) else _of_label(fleet, record))


def _of_event(fleet: Fleet, event: VehicleEvent) -> Iterator[Event]:
    if event.kind in fleet.baseline.restart_on:
        names = list(fleet.signals)
        about = tuple(sorted(names.index(name) for name in fleet.baseline.signals.get(event.kind, ())))
        yield Event(event.id, event.vehicle, event.ts, Action.RESTART, about)
    elif event.kind == "maintenance":
        yield Event(event.id, event.vehicle, event.ts, Action.BEGIN)
        if event.until is not None:
            yield Event(event.id, event.vehicle, max(event.until, event.ts), Action.END)
    elif event.kind == "undo" and event.undoes is not None:
        yield Event(event.id, event.vehicle, event.ts, Action.UNDO, (), event.undoes)
    elif event.kind == "retired":
        yield Event(event.id, event.vehicle, event.ts, Action.RETIRE)


def _of_label(fleet: Fleet, label: Label) -> Iterator[Event]:
    if label.reported_at is None:
        return
    action = _VERDICTS[label.verdict]
    if action in (Action.ACCEPT, Action.DISMISS) and "no_fault" not in fleet.baseline.restart_on:
        action = Action.ANSWER
    until = label.end if action in (Action.DISMISS, Action.CONFIRM) else 0
    yield Event(event_id(label), label.vehicle, label.reported_at, action, until=until)


def event_id(label: Label) -> str:
    """The id of what a label does: by it an undo names that."""
    return f"{label.verdict}:{label.vehicle}:{label.start}:{label.source}"


class EventStore(Journal[VehicleEvent]):
    """The vehicle events that a run was told of, in `events.jsonl` of `folder`; of one id the first counts.

    A scorer that started over was told of all of them again.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "events.jsonl", decode_events, LOOKS_BACK)

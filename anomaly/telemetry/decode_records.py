"""Bytes to the records of the topics beside telemetry; a message that cannot be used becomes a Failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from anomaly.telemetry.records import VERSION, Label, VehicleEvent
from anomaly.telemetry.typed import REFUSALS, TICKS_LIMIT, Failure, Versioned, newer, newer_words, plain_reason

T = TypeVar("T", VehicleEvent, Label)


def decode_events(values: Sequence[bytes]) -> tuple[list[VehicleEvent], list[Failure]]:
    """JSON messages of the topic `vehicle-events`, one event each: the good ones in order, and the bad."""
    return _records(values, VehicleEvent, event_problem)


def decode_labels(values: Sequence[bytes]) -> tuple[list[Label], list[Failure]]:
    """JSON messages of the topic `labels`, one label each: the good ones in order, and the bad."""
    return _records(values, Label, label_problem)


def _records(
    values: Sequence[bytes], kind: type[T], problem: Callable[[T], str | None]
) -> tuple[list[T], list[Failure]]:
    decode = msgspec.json.Decoder(kind).decode
    version = msgspec.json.Decoder(Versioned).decode
    records: list[T] = []
    failures: list[Failure] = []
    for position, value in enumerate(values):
        try:
            record = decode(value)
        except REFUSALS as error:
            failures.append(Failure(position, newer(value, version) or plain_reason(error)))
            continue
        wrong = problem(record)
        if wrong is None:
            records.append(record)
        else:
            failures.append(Failure(position, wrong))
    return records, failures


def event_problem(event: VehicleEvent) -> str | None:
    """What is wrong with an event whose types are right; None if nothing."""
    if not event.id:
        return "id: is empty; an event needs one, so that it counts once"
    if event.kind == "undo" and not event.undoes:
        return "undoes: missing; an event of kind undo names the id of the event that it takes back"
    if event.until is not None and event.until < event.ts:
        return f"until: {event.until} lies before ts {event.ts}"
    return _record_problem(event.vehicle, event.v, {"ts": event.ts, "until": event.until})


def label_problem(label: Label) -> str | None:
    """What is wrong with a label whose types are right; None if nothing."""
    if label.start > label.end:
        return f"from: {label.start} lies after to {label.end}"
    times = {"from": label.start, "to": label.end, "reported_at": label.reported_at}
    return _record_problem(label.vehicle, label.v, times)


def _record_problem(vehicle: str, version: int, times: dict[str, int | None]) -> str | None:
    if version > VERSION:
        return newer_words(version)
    if version < VERSION:
        return f"v: {version} is no version"
    if not 1 <= len(vehicle) <= 200:
        return f"vehicle: has {len(vehicle)} characters; 1 to 200 are allowed"
    for name, ticks in times.items():
        if ticks is not None and abs(ticks) > TICKS_LIMIT:
            return f"{name}: {ticks} is out of range"
    return None

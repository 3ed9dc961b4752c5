"""Vehicle events and labels as the scorer reads them: whole, outside its group, before every poll."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from anomaly.engine.events import Action, Event, Kept
from anomaly.feedback.events import EventStore, events_of
from anomaly.feedback.labels import LabelStore
from anomaly.fleet import Fleet
from anomaly.stream.ports import Block, Log, Reader
from anomaly.telemetry.decode_records import decode_events, decode_labels
from anomaly.telemetry.records import Label, VehicleEvent

TOPICS = ("vehicle-events", "labels")
Positions = dict[str, dict[int, int]]


class Told(NamedTuple):
    """One message of such a topic: what it does to its vehicle, or why it could not be used."""

    topic: str
    partition: int
    offset: int
    events: list[Event]
    failure: str | None
    payload: bytes


class Feeds:
    """Reads both topics from `positions` on (full topic name to partition to offset), or from their start."""

    def __init__(self, log: Log, fleet: Fleet, positions: Mapping[str, Mapping[int, int]]) -> None:
        self._fleet = fleet
        names = [fleet.topic(name) for name in TOPICS]
        self._readers: dict[str, Reader] = {name: log.reader(name, positions.get(name, {})) for name in names}
        self._read: list[Told] = []

    def read(self) -> list[Told]:
        """Everything that came since the last call that did not fail, in order."""
        for name, reader in self._readers.items():
            for block in reader.read_to_end():
                self._read += _told(self._fleet, name, block)
        told, self._read = self._read, []
        return told

    @property
    def positions(self) -> Positions:
        """How far both topics were read."""
        return {name: dict(reader.positions) for name, reader in self._readers.items()}

    def close(self) -> None:
        """Let go of the connections."""
        for reader in self._readers.values():
            reader.close()


def _told(fleet: Fleet, topic: str, block: Block) -> Iterator[Told]:
    decode = decode_events if topic == fleet.topic("vehicle-events") else decode_labels
    records, failures = decode(block.values)
    reasons = {failure.position: failure.reason for failure in failures}
    good: Iterator[VehicleEvent | Label] = iter(records)
    for position, (offset, payload) in enumerate(zip(block.offsets.tolist(), block.values, strict=True)):
        reason = reasons.get(position)
        events = events_of(fleet, next(good)) if reason is None else []
        yield Told(topic, block.partition, offset, events, reason, payload)


def keep(fleet: Fleet, messages: Sequence[Told], folder: Path) -> None:
    """Add the events and labels among `messages` to those in `folder`/events and `folder`/labels, each once: a
    retraining learns from them."""
    good = {
        name: [told.payload for told in messages if told.topic == fleet.topic(name) and told.failure is None]
        for name in TOPICS
    }
    if good["vehicle-events"]:
        EventStore(folder / "events").add(decode_events(good["vehicle-events"])[0])
    if good["labels"]:
        LabelStore(folder / "labels").add(decode_labels(good["labels"])[0])


def written(event: Event, kept: bytes = b"") -> bytes:
    """An event as the control log and the table of waiting ones have it, with the baseline that a restart ended."""
    fields = {**event._asdict(), "kept": kept.hex()} if kept else event._asdict()
    return msgspec.json.encode(fields)


def read(payload: bytes) -> tuple[Event, Kept | None]:
    """What `written` wrote."""
    fields = msgspec.json.decode(payload)
    kept = bytes.fromhex(fields.pop("kept", ""))
    action, signals = Action(fields.pop("action")), tuple(fields.pop("signals"))
    event = Event(**fields, action=action, signals=signals)
    return event, Kept(event.ts, kept) if kept else None


def earliest(stored: Sequence[Positions]) -> Positions:
    """The positions from which nothing is missed by any of the partitions whose positions are `stored`.

    >>> earliest([{"e": {0: 4, 1: 2}}, {"e": {0: 3, 1: 7}}])
    {'e': {0: 3, 1: 2}}
    """
    topics = set.intersection(*(set(positions) for positions in stored)) if stored else set()
    found: Positions = {}
    for topic in sorted(topics):
        numbers = set.intersection(*(set(positions[topic]) for positions in stored))
        found[topic] = {number: min(positions[topic][number] for positions in stored) for number in sorted(numbers)}
    return found

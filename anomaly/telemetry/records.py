"""The records of the topics, as they are written: version 1 of each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

import msgspec

EventKind = Literal["service", "firmware", "sensor", "maintenance", "commissioned", "retired", "undo"]
Verdict = Literal["fault", "no_fault", "fixed", "normal_since", "unknown"]
VERSION = 1


class VehicleEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something done to a vehicle; `ts` and `until` in the fleet's time unit."""

    id: str
    vehicle: str
    ts: int
    kind: EventKind
    until: int | None = None
    undoes: str | None = None
    detail: str | None = None
    v: int = VERSION


class Label(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"start": "from", "end": "to"}):
    """What somebody found out about a vehicle from `start` to `end`, both included; said at `reported_at`."""

    vehicle: str
    start: int
    end: int
    verdict: Verdict
    source: str
    code: str | None = None
    reported_at: int | None = None
    alert: str | None = None
    note: str | None = None
    v: int = VERSION


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that could not be used: why, where it came from, and its bytes unchanged."""

    reason: str
    topic: str
    partition: int
    offset: int
    payload: bytes
    v: int = VERSION


class SignalShare(msgspec.Struct, frozen=True, kw_only=True):
    """One signal's share of an alarm; `actual` and `expected` in its own unit."""

    name: str
    share: float
    actual: float | None
    expected: float
    unit: str = ""


class Alert(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One state of one alert. `id` = hash(subject, kind, start): a replay never makes a second one."""

    id: str
    state: Literal["open", "update", "closed"]
    subject: dict[str, str]
    kind: str
    start: int
    peak: int
    severity: int
    level: float
    count: int
    signals: list[SignalShare]
    model: str
    arm: str
    text: str
    onset: int | None = None
    end: int | None = None
    regime: int | None = None
    v: int = VERSION


def alert_id(subject: Mapping[str, str], kind: str, start: int) -> str:
    """The id of the alert of `kind` about `subject` that began at `start`: 16 hex digits, always the same.

    It is BLAKE2b with 8 bytes over the JSON of the three; nothing else of an alert goes into it.
    """
    key = msgspec.json.encode([dict(sorted(subject.items())), kind, start])
    return hashlib.blake2b(key, digest_size=8).hexdigest()

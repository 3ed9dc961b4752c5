"""What partitions tell each other about the periods of their cohorts, on the topic `cohorts`.

Whoever closes a period says what its vehicles did in it, also if that is nothing. Such a partial is one or several
messages, keyed so that a compacted topic keeps those of the last KEPT periods of each partition. The topic is read from
its beginning by everybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec
import structlog

from anomaly.engine.cohorts import Counts, Partial, summed
from anomaly.errors import DataError
from anomaly.fleet import Fleet
from anomaly.service.stored import Control, Letter
from anomaly.stream.ports import Block, Log
from anomaly.telemetry.batch import Batch

VERSION = 2
KEPT = 16
"""Periods of each partition that are kept; 7 are in use."""
SAY_AFTER_S = 0.5
"""A wait for other partitions is said after so long."""
PIECE = 64
"""Cohorts in one message at most, so that it always fits its topic."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One of the `parts` of what `partition` counted in `period`; state of another `frame` is no part of it."""

    group: str
    frame: str
    partition: int
    period: int
    part: int
    parts: int
    counts: dict[str, Counts]
    v: int = VERSION


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a row `cohorts` of the control log: what was merged, and which partitions were not waited for."""

    period: int
    missing: list[int]
    counts: dict[str, Counts]


class Whose(NamedTuple):
    """Which partials belong together: those of one group with one frame, over all `partitions` of the telemetry."""

    group: str
    frame: str
    partitions: int


def letters(fleet: Fleet, whose: Whose, partition: int, partial: Partial) -> list[Letter]:
    """The messages that tell a partial."""
    pieces = [dict(piece) for piece in _pieces(partial.counts)] or [{}]
    found = []
    for part, counts in enumerate(pieces):
        message = Message(
            group=whose.group, frame=whose.frame, partition=partition, period=partial.period,
            part=part, parts=len(pieces), counts=counts,
        )  # fmt: skip
        key = f"{whose.group}/{partition}/{partial.period % KEPT}/{part}".encode()
        found.append(Letter(fleet.topic("cohorts"), key, msgspec.json.encode(message)))
    return found


def _pieces(counts: Mapping[str, Counts]) -> Iterator[list[tuple[str, Counts]]]:
    rest = iter(counts.items())
    while piece := list(islice(rest, PIECE)):
        yield piece


class Periods:
    """All partials that were told so far. PeerError if the topic cannot be read."""

    def __init__(self, log: Log, fleet: Fleet, whose: Whose) -> None:
        self._whose = whose
        self._reader = log.reader(fleet.topic("cohorts"), {})
        self._told: dict[int, dict[int, dict[int, Message]]] = {}
        self._newest: dict[int, int] = {}
        self._refused = False

    def read(self) -> None:
        """Take in what came since the last call."""
        for block in self._reader.read_to_end():
            for value in block.values:
                self._take(value)

    def _take(self, value: bytes) -> None:
        try:
            message = msgspec.json.decode(value, type=Message)
        except msgspec.MsgspecError as error:
            if not self._refused:
                self._refused = True
                structlog.get_logger().warning("a message about cohorts cannot be read", reason=str(error))
            return
        if (message.group, message.frame, message.v) != (self._whose.group, self._whose.frame, VERSION):
            return
        periods = self._told.setdefault(message.partition, {})
        parts = periods.setdefault(message.period, {})
        parts[message.part] = message
        if len(parts) >= message.parts:
            self._newest[message.partition] = message.period
            for old in [period for period in periods if not message.period - KEPT < period <= message.period]:
                del periods[old]

    @property
    def newest(self) -> int | None:
        """The last period that any partition closed."""
        return max(self._newest.values(), default=None)

    def merged(self, period: int) -> tuple[Partial, list[int]]:
        """What all partitions counted in `period`, and those that did not tell yet."""
        there = [
            number
            for number in range(self._whose.partitions)
            if period <= self._newest.get(number, period - 1) <= period + KEPT
        ]
        parts = [message.counts for number in there for message in self._told[number].get(period, {}).values()]
        missing = sorted(set(range(self._whose.partitions)) - set(there))
        return Partial(period, summed(parts)), missing

    def speaker(self, period: int) -> int:
        """The partition that tells the alerts of `period`: the lowest one that counted something in it."""
        counted = [
            number
            for number, periods in self._told.items()
            if any(message.counts for message in periods.get(period, {}).values())
        ]
        return min(counted, default=min(self._told, default=0))

    def close(self) -> None:
        """Let go of the connection."""
        self._reader.close()


class Held:
    """What waits for other partitions: the rest of a batch and the offset behind its block, later blocks, and the
    period that it waits for since `since_s`; `moved` says whether the last try led further."""

    def __init__(self) -> None:
        self.batch: Batch | None = None
        self.end = 0
        self.blocks: list[Block] = []
        self.period: int | None = None
        self.since_s = 0.0
        self.moved = False
        self._said: int | None = None

    def say(self, partition: int, period: int, missing: Sequence[int], now_s: float) -> None:
        """Once, where it takes longer than a moment."""
        if now_s - self.since_s >= SAY_AFTER_S and self._said != period:
            self._said = period
            structlog.get_logger().info(
                "waiting for what other partitions count", partition=partition, period=period, missing=list(missing)
            )


def control_row(offset: int, partial: Partial, missing: Sequence[int], ticks: int) -> Control:
    """A row of the control log: `partial` is merged before the reading at `offset`; a period has `ticks`."""
    recorded = Recorded(period=partial.period, missing=list(missing), counts=dict(partial.counts))
    payload = msgspec.json.encode(recorded)
    return Control(offset, None, "cohorts", hashlib.sha256(payload).hexdigest(), partial.period * ticks, payload)


def recorded_partial(row: Control) -> Partial:
    """What a row of the control log says was merged. DataError if it says nothing of that kind."""
    try:
        recorded = msgspec.json.decode(row.payload, type=Recorded)
    except msgspec.MsgspecError as error:
        raise DataError(f"a row of the control log about cohorts cannot be read: {error}") from error
    return Partial(recorded.period, recorded.counts)

"""A file's records as a stream: in stable order of time, keyed by vehicle, at the speed that is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.fleet import Fleet
from anomaly.stream.partitions import partition_of
from anomaly.stream.ports import Record, Sink
from anomaly.telemetry import files
from anomaly.telemetry.encode import encode_message, encode_readings
from anomaly.telemetry.records import Label, VehicleEvent

TICKS_PER_S = {"ms": 1_000.0, "s": 1.0, "cycles": 1.0}
"""Ticks in a second of real time; a cycle, which has none, counts as one second."""

T = TypeVar("T", VehicleEvent, Label)

_CHUNK, _LARGEST_CHUNK = 5_000, 100_000
_NAP_S = 0.05


class Feed(NamedTuple):
    """n records in order of time: `ts` int64[n], `vehicles` n ids, the messages of any stretch of them, and for
    readings the one message of any rows of them."""

    ts: NDArray[np.int64]
    vehicles: Sequence[str]
    messages: Callable[[int, int], list[bytes]]
    packed: Callable[[NDArray[np.int64]], bytes] | None = None


class Pace(NamedTuple):
    """`ticks_per_s` of event time that pass in a second (None: as fast as it goes), and readings in a message."""

    ticks_per_s: float | None = None
    pack: int = 1


def readings(path: Path, fleet: Fleet) -> Feed:
    """The readings of a data file. Raises DataError for a file that cannot be used."""
    batch = files.read_history(path, fleet)
    return Feed(
        batch.ts,
        batch.vehicles,
        lambda start, stop: encode_readings(batch.rows(start, stop), fleet),
        lambda rows: encode_message(batch.take(rows), fleet),
    )


def events(path: Path, fleet: Fleet) -> Feed:
    """The vehicle events of a file, in order of `ts`."""
    return _records(files.read_events(path, fleet), lambda event: event.ts)


def labels(path: Path, fleet: Fleet) -> Feed:
    """The labels of a file, in order of the time that they were reported at, or else of their end."""
    return _records(
        files.read_labels(path, fleet), lambda label: label.end if label.reported_at is None else label.reported_at
    )


def send(feed: Feed, sink: Sink, topic: str, partitions: int, pace: Pace) -> Iterator[int]:
    """Send all of `feed` to `topic`, which has `partitions`; after each part, yields how many records are sent."""
    begin = time.monotonic()
    done = 0
    chunk = max(_CHUNK, min(pace.pack * partitions, _LARGEST_CHUNK))
    while done < len(feed.ts):
        stop = min(done + chunk, _due(feed.ts, pace, time.monotonic() - begin))
        if stop <= done:
            time.sleep(_NAP_S)
        else:
            sink.send(topic, _packed(feed, (done, stop), partitions, pace.pack))
            done = stop
        yield done


def _due(ts: NDArray[np.int64], pace: Pace, elapsed_s: float) -> int:
    """How many records are due, `elapsed_s` after the first."""
    if pace.ticks_per_s is None:
        return len(ts)
    return int(np.searchsorted(ts, ts[0] + int(elapsed_s * pace.ticks_per_s), side="right"))


def _packed(feed: Feed, stretch: tuple[int, int], partitions: int, pack: int) -> list[Record]:
    """The stretch as records; packed, a message has readings of one partition, in order of time."""
    start, stop = stretch
    keys = [vehicle.encode() for vehicle in feed.vehicles[start:stop]]
    packed = feed.packed
    if pack == 1 or packed is None:
        return [Record(key, value) for key, value in zip(keys, feed.messages(start, stop), strict=True)]
    home = np.array([partition_of(key, partitions) for key in keys], np.int64)
    groups = ((number, start + np.flatnonzero(home == number)) for number in np.unique(home).tolist())
    return [
        Record(None, packed(rows[first : first + pack]), number)
        for number, rows in groups
        for first in range(0, len(rows), pack)
    ]


def _records(found: Sequence[T], when: Callable[[T], int]) -> Feed:
    ordered = sorted(found, key=when)
    ts = np.array([when(record) for record in ordered], dtype=np.int64)
    encode = msgspec.json.Encoder().encode
    return Feed(
        ts, [record.vehicle for record in ordered], lambda start, stop: [encode(item) for item in ordered[start:stop]]
    )

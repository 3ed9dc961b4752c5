"""What of a history is healthy, unknown and fault: the one definition of fit, budget and backtest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.engine.events import Event
from anomaly.feedback.labels import CONFIRMED, as_of
from anomaly.fleet import History
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Label

HEALTHY, UNKNOWN, FAULT = 0, 1, 2

Window = tuple[int, int]


class Past(NamedTuple):
    """When n readings of which vehicles were, in any order.

    `names` are the vehicles, `codes` int64[n] the position of each reading's vehicle in them, `ts` int64[n].
    """

    names: Sequence[str]
    codes: NDArray[np.int64]
    ts: NDArray[np.int64]

    @classmethod
    def of(cls, batch: Batch) -> Past:
        """The past that a batch of readings tells of."""
        position = {name: code for code, name in enumerate(dict.fromkeys(batch.vehicles))}
        codes = np.fromiter(map(position.__getitem__, batch.vehicles), np.int64, len(batch))
        return cls(list(position), codes, batch.ts)


class Stretch(NamedTuple):
    """The way of one vehicle into one fault, as times: healthy in [begin, unknown), then unknown.

    The fault itself is [start, end], both included. `begin` and `unknown` are times of readings, or `start`
    where there is no reading before it. `latest` is the last time at which an alarm is early
    enough: that of the reading `detected_before` readings before the last one of the fault; before `start`
    where there is none.
    """

    vehicle: str
    begin: int
    unknown: int
    start: int
    end: int
    latest: int


def health(past: Past, labels: Sequence[Label], restarts: Sequence[Event], history: History) -> NDArray[np.int8]:
    """HEALTHY, UNKNOWN or FAULT for each of the n readings of `past`, int8[n].

    A confirmed fault (verdict `fault` or `fixed`, or the end of a run to failure) closes a stretch of
    readings that begins at the vehicle's first reading, after the fault before it, or at the last restart
    event before the fault's `from`. The first `healthy_share` of the stretch's readings (those of the fault
    counted), never beyond `from`, are healthy, those up to `from` unknown, those from `from` to `to` the
    fault. All other readings are healthy, but those inside a label `unknown`. Labels are taken as `as_of`
    leaves them.
    """
    rows = _Sorted.of(past)
    ordered = np.zeros(len(past.ts), np.int8)
    for cut in _cuts(rows, labels, restarts, history):
        ordered[cut.unknown : cut.start] = UNKNOWN
        ordered[cut.start : cut.end] = FAULT
    position = {name: code for code, name in enumerate(past.names)}
    for label in as_of(labels):
        code = position.get(label.vehicle)
        if label.verdict == "unknown" and code is not None:
            own = rows.own(code)
            first, last = own.start + np.searchsorted(rows.times[own], [label.start, label.end + 1])
            part = ordered[first:last]
            part[part == HEALTHY] = UNKNOWN
    result = np.empty(len(past.ts), np.int8)
    result[rows.order] = ordered
    return result


def stretches(past: Past, labels: Sequence[Label], restarts: Sequence[Event], history: History) -> list[Stretch]:
    """The same faults as times, for whoever has alarms and no readings: in order of vehicle and time."""
    rows = _Sorted.of(past)
    result = []
    for cut in _cuts(rows, labels, restarts, history):
        start, end = cut.window
        latest = cut.end - 1 - history.detected_before
        result.append(
            Stretch(
                vehicle=past.names[cut.code],
                begin=int(rows.times[cut.begin]) if cut.begin < cut.start else start,
                unknown=int(rows.times[cut.unknown]) if cut.unknown < cut.start else start,
                start=start,
                end=end,
                latest=int(rows.times[latest]) if latest >= cut.start else start - 1,
            )
        )
    return result


class _Sorted(NamedTuple):
    """A past in order of vehicle and time: `order` leads there, `edges` are where each vehicle begins."""

    names: Sequence[str]
    order: NDArray[np.int64]
    times: NDArray[np.int64]
    edges: NDArray[np.int64]

    @classmethod
    def of(cls, past: Past) -> _Sorted:
        order = np.lexsort((past.ts, past.codes))
        edges = np.searchsorted(past.codes[order], np.arange(len(past.names) + 1))
        return cls(past.names, order, past.ts[order], edges)

    def own(self, code: int) -> slice:
        return slice(int(self.edges[code]), int(self.edges[code + 1]))


class _Cut(NamedTuple):
    """A stretch as positions among the readings in order of vehicle and time; `end` excluded."""

    code: int
    begin: int
    unknown: int
    start: int
    end: int
    window: Window


def _cuts(rows: _Sorted, labels: Sequence[Label], restarts: Sequence[Event], history: History) -> Iterator[_Cut]:
    confirmed: dict[str, list[Window]] = defaultdict(list)
    for label in as_of(labels):
        if label.verdict in CONFIRMED:
            confirmed[label.vehicle].append((label.start, label.end))
    events: dict[str, list[int]] = defaultdict(list)
    for restart in restarts:
        events[restart.vehicle].append(restart.ts)
    for code, name in enumerate(rows.names):
        windows = list(confirmed.get(name, ()))
        own = rows.own(code)
        times = rows.times[own]
        if history.run_to_failure and len(times):
            windows.append((int(times[max(0, len(times) - history.fault_window)]), int(times[-1])))
        for cut in _of_vehicle(times, merged(windows), events.get(name, []), history.healthy_share):
            begin, unknown, start, end = (own.start + place for place in cut[:4])
            yield _Cut(code, begin, unknown, start, end, cut[4])


def _of_vehicle(
    times: NDArray[np.int64], windows: Sequence[Window], events: Sequence[int], share: float
) -> Iterator[tuple[int, int, int, int, Window]]:
    """begin, unknown, start, end (positions) and window of each fault of one vehicle; `times` ascending."""
    after = 0
    for window in windows:
        start = max(after, int(np.searchsorted(times, window[0], "left")))
        end = max(start, int(np.searchsorted(times, window[1], "right")))
        last_event = max((event for event in events if event <= window[0]), default=None)
        begin = after
        if last_event is not None:
            begin = min(start, max(after, int(np.searchsorted(times, last_event, "left"))))
        healthy = int((end - begin) * share + 1e-9)
        yield begin, min(begin + healthy, start), start, end, window
        after = end


def merged(windows: Iterable[Window]) -> list[Window]:
    """Windows in order of time, those that overlap as one.

    >>> merged([(5, 9), (1, 3), (8, 12)])
    [(1, 3), (5, 12)]
    """
    result: list[Window] = []
    for start, end in sorted(windows):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result

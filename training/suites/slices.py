"""Parts of the test readings that are judged by themselves: where, when and after what a model does worse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from anomaly.feedback.labels import CONFIRMED, as_of
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Label, VehicleEvent
from training.history import History
from training.suites.case import Case
from training.suites.verdict import Slice

FIRST_DAYS, AFTER_DAYS = 30, 14
QUARTERS = ("January to March", "April to June", "July to September", "October to December")
Window = tuple[str, int, int]


def slices(case: Case, events: Sequence[VehicleEvent], labels: Sequence[Label] = ()) -> list[Slice]:
    """The test readings by kind of fault (the `code` of its label), context (type, region), quarter, a vehicle's first
    days, and the days after its services and new firmware."""
    batch, day = case.test.batch, case.fleet.ticks_per_day
    unit = "cycles" if day == 1 else "days"
    first = np.full(len(case.test.names), np.iinfo(np.int64).max)
    np.minimum.at(first, case.test.codes, batch.ts)
    young = batch.ts < first[case.test.codes] + FIRST_DAYS * day
    found = [*_by_kind(case.test, labels), *_by_context(batch), Slice(f"first {FIRST_DAYS} {unit} of a vehicle", young)]
    for kind in ("service", "firmware"):
        windows = [(one.vehicle, one.ts, one.ts + AFTER_DAYS * day - 1) for one in events if one.kind == kind]
        found.append(Slice(f"{AFTER_DAYS} {unit} after {kind}", _within(case.test, windows)))
    return [*found, *(_quarters(batch.ts // day) if day > 1 else [])]


def _by_kind(history: History, labels: Sequence[Label]) -> Iterator[Slice]:
    """A fault counts where it ends, so that its own readings are its slice; they hold no healthy day."""
    told = [label for label in as_of(labels) if label.verdict in CONFIRMED and label.code]
    for code in sorted({str(label.code) for label in told}):
        windows = [(label.vehicle, label.start, label.end) for label in told if label.code == code]
        yield Slice(f"fault: {code}", _within(history, windows))


def _by_context(batch: Batch) -> Iterator[Slice]:
    for field, column in batch.context.items():
        words = np.array([str(word) for word in column.words], dtype=object)[column.codes]
        yield from (Slice(f"{field}: {word}", words == word) for word in sorted(set(words)) if word != "None")


def _quarters(days: NDArray[np.int64]) -> Iterator[Slice]:
    quarter = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12 // 3
    return (Slice(f"season: {name}", quarter == place) for place, name in enumerate(QUARTERS))


def _within(history: History, windows: Iterable[Window]) -> NDArray[np.bool_]:
    """Which readings lie in a window (vehicle, first and last time) of their vehicle."""
    code_of = {name: code for code, name in enumerate(history.names)}
    order = np.argsort(history.codes, kind="stable")
    edges = np.searchsorted(history.codes[order], np.arange(len(history.names) + 1))
    chosen = np.zeros(len(history.batch), np.bool_)
    for vehicle, start, end in windows:
        if vehicle in code_of:
            own = order[edges[code_of[vehicle]] : edges[code_of[vehicle] + 1]]
            ts = history.batch.ts[own]
            chosen[own[(ts >= start) & (ts <= end)]] = True
    return chosen

"""The cohorts of one engine: their numbers, histograms and shifts, what is merged of them, and the bytes of them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly.engine import layout
from anomaly.engine.layout import Cohorts
from anomaly.engine.periods import shift_cohorts, shift_of
from anomaly.errors import StateError
from anomaly.telemetry.text import Coded

MANY = 1 << 16
"""Combinations of words beyond which those that occur are found by sorting."""
UNKNOWN = -2
NAMED = 100
"""Cohorts at most of which it is known that they are left out."""
BETWEEN = "\x1f"
"""Between the words of a cohort's key."""


class Counts(msgspec.Struct, frozen=True, array_like=True):
    """What vehicles of one cohort did in one period: their number, and the packed uint32[d, BINS + SIZES] of what they
    sent and of their evidence."""

    vehicles: int
    histogram: bytes


class Partial(NamedTuple):
    """What the vehicles of one partition, or of all, did in `period`, by cohort; cohorts without a reading left out."""

    period: int
    counts: Mapping[str, Counts]


class Merged(NamedTuple):
    """What is known once `period` was merged: the medians of all signals over the last closed periods, float32[cohorts,
    d] in healthy spreads, NaN where a cohort has too little; `keys` are the cohorts, in order of their names. That was
    before the reading at `row` of the batch; a period has `ticks`."""

    period: int
    keys: Sequence[str]
    medians: NDArray[np.float32]
    row: int = 0
    ticks: int = 0


def summed(parts: Iterable[Mapping[str, Counts]]) -> dict[str, Counts]:
    """Counts of several partitions added up, in order of the cohorts' names. StateError where they do not fit."""
    vehicles: dict[str, int] = {}
    histograms: dict[str, NDArray[np.uint32]] = {}
    for part in parts:
        for key, counts in part.items():
            added = _unpacked(counts.histogram)
            known = histograms.get(key)
            if known is not None and known.shape != added.shape:
                raise StateError(f"cohort {key!r} has partials of {len(known)} and {len(added)} bins")
            histograms[key] = added if known is None else known + added
            vehicles[key] = vehicles.get(key, 0) + counts.vehicles
    return {key: Counts(vehicles[key], _packed(histograms[key])) for key in sorted(histograms)}


class CohortTable:
    """Rows of arrays, one a cohort, at most `most`; a cohort keeps its number for ever."""

    def __init__(self, signals: int, most: int) -> None:
        self._signals = signals
        self._most = most
        self.keys: dict[str, int] = {}
        self.left_out: set[str] = set()
        calendar = np.zeros(layout.CALENDAR, np.int64)
        calendar[[layout.OPEN, layout.FIRST, layout.MERGED, layout.TOLD]] = layout.NEVER
        self.arrays = self._rows(0, calendar)
        self._first = int(layout.NEVER)
        self._words: list[Sequence[str | None]] = []
        self._sizes: list[int] = []
        self._known = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def _rows(self, count: int, calendar: NDArray[np.int64]) -> Cohorts:
        shape = (count, layout.PERIODS, self._signals, layout.BINS + layout.SIZES)
        known = (count, layout.SHIFTS, self._signals)
        return Cohorts(
            np.zeros(shape, np.uint32),
            np.zeros((count, layout.PERIODS), np.int64),
            np.zeros(known, np.float32),
            np.ones(known, np.float32),
            np.zeros(count, np.bool_),
            calendar,
        )

    def numbers(self, columns: Sequence[Coded], count: int) -> NDArray[np.int64]:
        """The cohort of each of `count` readings by the fields that make one, int64[count]; -1 where one of them is
        not said, or there are too many. A new one gets the next number, and empty histograms."""
        combined = columns[0].codes.astype(np.int64) if columns else np.zeros(count, np.int64)
        for column in columns[1:]:
            combined = combined * len(column.words) + column.codes
        words = [column.words for column in columns]
        sizes = [len(each) for each in words]
        combinations = math.prod(sizes)
        if combinations > MANY:
            distinct, place = np.unique(combined, return_inverse=True)
            self._words, self._sizes = words, []
            return np.array([self._number(code) for code in distinct.tolist()], np.int64)[place]
        same = sizes == self._sizes and all(a is b or a == b for a, b in zip(words, self._words, strict=True))
        if not same or len(self._known) != combinations:
            self._words, self._sizes, self._known = words, sizes, np.full(combinations, UNKNOWN, np.int64)
        found = self._known[combined]
        if count and found.min() == UNKNOWN:
            for code in np.unique(combined[found == UNKNOWN]).tolist():
                self._known[code] = self._number(code)
            found = self._known[combined]
        return found

    def _number(self, code: int) -> int:
        """The cohort of one combination of words."""
        told = []
        for words in reversed(self._words):
            code, place = divmod(code, len(words))
            told.append(words[place])
        if None in told:
            return -1
        key = BETWEEN.join(str(word) for word in reversed(told))
        self._add([key])
        if key not in self.keys and len(self.left_out) < NAMED:
            self.left_out.add(key)
        return self.keys.get(key, -1)

    def _add(self, keys: Sequence[str]) -> None:
        new = [key for key in keys if key not in self.keys][: self._most - len(self.keys)]
        if new:
            self.keys |= {key: number for number, key in enumerate(new, start=len(self.keys))}
            old, more = self.arrays, self._rows(len(new), self.arrays.calendar)
            columns: Iterator[Any] = zip(old, more, strict=True)
            self.arrays = Cohorts._make(map(np.concatenate, columns))._replace(calendar=old.calendar)

    def known(self, number: int, period: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What is taken off readings of a cohort in `period`, and what evidence is divided by, float32[d] each."""
        opened, merged = (int(self.arrays.calendar[place]) for place in (layout.OPEN, layout.MERGED))
        place = shift_of(min(period, merged + 2), opened)
        return self.arrays.shift[number, place], self.arrays.scale[number, place]

    def closed(self) -> list[Partial]:
        """The own part of each period that closed since the last call, in order."""
        calendar = self.arrays.calendar
        if calendar[layout.OPEN] == layout.NEVER:
            return []
        told, opened = int(calendar[layout.TOLD]), int(calendar[layout.OPEN])
        calendar[layout.TOLD] = opened - 1
        return [Partial(period, self._counts(period % layout.PERIODS)) for period in range(told + 1, opened)]

    def _counts(self, place: int) -> dict[str, Counts]:
        found = {}
        for key in sorted(self.keys):
            histogram = self.arrays.histogram[self.keys[key], place]
            if histogram.any():
                found[key] = Counts(int(self.arrays.vehicles[self.keys[key], place]), _packed(histogram))
        return found

    @property
    def late(self) -> int:
        """Readings that came too late to count."""
        return int(self.arrays.calendar[layout.LATE])

    def skip_to(self, period: int) -> bool:
        """Where no period is open yet: the first one is later than `period`; False if that is no news."""
        calendar = self.arrays.calendar
        if calendar[layout.OPEN] != layout.NEVER or calendar[layout.TOLD] >= period:
            return False
        calendar[layout.TOLD] = period
        return True

    @property
    def awaited(self) -> int:
        """The period that is to be merged next."""
        return int(self.arrays.calendar[layout.MERGED]) + 1

    def merge(self, merged: Partial | None = None) -> Merged:
        """The next period is merged: `merged` is what all partitions counted; None: there is no other than this one."""
        if merged is not None:
            self._take(merged)
        period = self.awaited
        known, medians = (self.arrays.shift, self.arrays.scale), np.zeros((len(self), self._signals), np.float32)
        before = [array.copy() for array in known]
        self._change(period + 1 - layout.CLOSED)
        shift_cohorts(period, self.arrays, medians)
        for array, old in zip(known, before, strict=True):
            self.arrays.changed[:] |= (array != old).any(axis=(1, 2))
        keys = sorted(self.keys)
        return Merged(period, keys, medians[[self.keys[key] for key in keys]])

    def _take(self, merged: Partial) -> None:
        if merged.period != self.awaited:
            raise StateError(f"period {merged.period} of the cohorts is merged, and {self.awaited} was to be next")
        self._add(sorted(merged.counts))
        place = merged.period % layout.PERIODS
        self._change(merged.period)
        self.arrays.histogram[:, place] = 0
        self.arrays.vehicles[:, place] = 0
        for key, counts in merged.counts.items():
            if key in self.keys:
                self.arrays.changed[self.keys[key]] = True
                bins = _unpacked(counts.histogram)
                self.arrays.histogram[self.keys[key], place] = bins.reshape(self._signals, -1)
                self.arrays.vehicles[self.keys[key], place] = counts.vehicles

    def _change(self, period: int) -> None:
        """Cohorts that have a count in `period` are about to change; it may be of vehicles alone."""
        place, arrays = period % layout.PERIODS, self.arrays
        arrays.changed[:] |= arrays.histogram[:, place].any(axis=(1, 2)) | (arrays.vehicles[:, place] > 0)

    def stopped(self) -> int | None:
        """The row before which the kernel stopped, as its reading needs a period that is not merged yet; None: it did
        not."""
        calendar = self.arrays.calendar
        row, calendar[layout.STOPPED] = int(calendar[layout.STOPPED]) - 1, 0
        if calendar[layout.FIRST] != self._first:
            self._first = int(calendar[layout.FIRST])
            self.arrays.changed[:] = True
        return None if row < 0 else row

    def forget_changes(self) -> None:
        """All is saved as it is."""
        self.arrays.changed[:] = False

    def rows(self, everything: bool) -> NDArray[np.int32]:
        """The numbers of the cohorts that changed, or of all."""
        return np.flatnonzero(everything | self.arrays.changed).astype(np.int32)

    def saved(self, rows: NDArray[np.int32]) -> tuple[bytes, ...]:
        """The bytes of these rows of each array, and of the calendar."""
        return *(array[rows].tobytes() for array in self.arrays.counted), self.arrays.calendar.tobytes()

    def load(self, keys: Sequence[str], rows: NDArray[np.int32], saved: Sequence[bytes]) -> None:
        """Take over what `saved` gave; `keys` are those of all cohorts."""
        self._most = max(self._most, len(keys))
        self._add(keys)
        for array, data in zip(self.arrays.counted, saved[:-1], strict=True):
            array[rows] = np.frombuffer(data, array.dtype).reshape(len(rows), *array.shape[1:])
        self.arrays.calendar[:] = np.frombuffer(saved[-1], np.int64)
        self._first = int(self.arrays.calendar[layout.FIRST])

    def in_order(self) -> Iterator[bytes]:
        """The bytes of all arrays with the cohorts in order of their keys."""
        rows = [self.keys[key] for key in sorted(self.keys)]
        for array in self.arrays.counted:
            yield array[rows].tobytes()
        yield self.arrays.calendar[: layout.KEPT].tobytes()


def _packed(histogram: NDArray[np.uint32]) -> bytes:
    return zlib.compress(histogram.tobytes(), 1)


def _unpacked(packed: bytes) -> NDArray[np.uint32]:
    try:
        return np.frombuffer(zlib.decompress(packed), np.uint32)
    except (zlib.error, ValueError) as error:
        raise StateError(f"these are no counts of a cohort: {error}") from error

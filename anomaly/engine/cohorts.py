"""The cohorts of one engine: their numbers, histograms and shifts, and the bytes of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.engine import layout
from anomaly.engine.layout import Cohorts
from anomaly.telemetry.text import Coded

MANY = 1 << 16
"""Combinations of words beyond which those that occur are found by sorting."""
UNKNOWN = -2


class CohortTable:
    """Rows of arrays, one a cohort; a cohort keeps its number for ever."""

    def __init__(self, signals: int) -> None:
        self._signals = signals
        self.keys: dict[str, int] = {}
        self.arrays = self._rows(0)
        self.changed: set[int] = set()
        self._words: list[Sequence[str | None]] = []
        self._sizes: list[int] = []
        self._known = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def _rows(self, count: int) -> Cohorts:
        shape = (count, layout.PERIODS, self._signals, layout.BINS)
        shift = np.zeros((count, self._signals), np.float32)
        never = np.full(count, layout.NEVER, np.int64)
        nobody = np.full((count, 2), -1, np.int64)
        return Cohorts(np.zeros(shape, np.uint32), shift, never, np.zeros(count, np.int64), nobody)

    def numbers(self, columns: Sequence[Coded], count: int) -> NDArray[np.int64]:
        """The cohort of each of `count` readings by the fields that make one, int64[count]; -1 where one of them is
        not said. A new one gets the next number, and empty histograms."""
        combined = np.zeros(count, np.int64)
        for column in columns:
            combined = combined * len(column.words) + column.codes
        words = [column.words for column in columns]
        sizes = [len(each) for each in words]
        combinations = math.prod(sizes)
        if combinations > MANY:
            distinct, place = np.unique(combined, return_inverse=True)
            self._words, self._sizes = words, []
            return np.array([self._number(code) for code in distinct.tolist()], np.int64)[place]
        same = sizes == self._sizes and all(a is b for a, b in zip(words, self._words, strict=True))
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
        key = "\x1f".join(str(word) for word in reversed(told))
        self._add([key] if key not in self.keys else [])
        return self.keys[key]

    def _add(self, new: Sequence[str]) -> None:
        if new:
            self.keys |= {key: number for number, key in enumerate(new, start=len(self.keys))}
            old, more = self.arrays, self._rows(len(new))
            self.arrays = Cohorts(
                np.concatenate([old.histogram, more.histogram]),
                np.concatenate([old.shift, more.shift]),
                np.concatenate([old.period, more.period]),
                np.concatenate([old.vehicles, more.vehicles]),
                np.concatenate([old.ahead, more.ahead]),
            )

    def touch(self, numbers: NDArray[np.integer[Any]]) -> None:
        """Remember that these cohorts are about to change; -1 is none."""
        seen = np.zeros(len(self) + 1, np.bool_)
        seen[numbers] = True
        self.changed.update(np.flatnonzero(seen[:-1]).tolist())

    def rows(self, everything: bool) -> NDArray[np.int32]:
        """The numbers of the cohorts that changed, or of all."""
        return np.array(range(len(self)) if everything else sorted(self.changed), np.int32)

    def saved(self, rows: NDArray[np.int32]) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        """The bytes of these rows of each array."""
        histogram, shift, period, vehicles, ahead = (array[rows].tobytes() for array in self.arrays)
        return histogram, shift, period, vehicles, ahead

    def load(self, keys: Sequence[str], rows: NDArray[np.int32], saved: Sequence[bytes]) -> None:
        """Take over what `saved` gave; `keys` are those of all cohorts."""
        self._add([key for key in keys if key not in self.keys])
        arrays: tuple[NDArray[Any], ...] = self.arrays
        for array, data in zip(arrays, saved, strict=True):
            array[rows] = np.frombuffer(data, array.dtype).reshape(len(rows), *array.shape[1:])

    def in_order(self) -> Iterator[bytes]:
        """The bytes of all arrays with the cohorts in order of their keys; `ahead` depends on the order of slots."""
        rows = [self.keys[key] for key in sorted(self.keys)]
        for array in self.arrays[:-1]:
            yield array[rows].tobytes()

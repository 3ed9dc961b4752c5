"""The cohorts of one engine: their numbers, histograms and shifts, and the bytes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.engine import layout
from anomaly.engine.layout import Cohorts
from anomaly.telemetry.text import Coded


class CohortTable:
    """Rows of arrays, one a cohort; a cohort keeps its number for ever."""

    def __init__(self, signals: int) -> None:
        self._signals = signals
        self.keys: dict[str, int] = {}
        self.arrays = self._rows(0)
        self.changed: set[int] = set()

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
        combined, combinations = np.zeros(count, np.int64), [()]
        for column in columns:
            pairs, combined = np.unique(combined * len(column.words) + column.codes, return_inverse=True)
            found = (divmod(pair, len(column.words)) for pair in pairs.tolist())
            combinations = [(*combinations[before], column.words[code]) for before, code in found]
        keys = [None if None in words else "\x1f".join(words) for words in combinations]
        self._add([key for key in dict.fromkeys(keys) if key is not None and key not in self.keys])
        number = np.array([-1 if key is None else self.keys[key] for key in keys], np.int64)
        self.changed |= set(number.tolist()) - {-1}
        return number[combined]

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

    def touch(self, numbers: NDArray[np.int32]) -> None:
        """Remember that these cohorts are about to change; -1 is none."""
        seen = np.bincount(numbers + 1, minlength=1)
        self.changed |= set((np.flatnonzero(seen) - 1).tolist()) - {-1}

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

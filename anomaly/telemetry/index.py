"""Numbers for strings, which stay theirs until they are removed: the hash table of `hash_table.py` with its memory."""

from __future__ import annotations

import secrets

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import direct
from anomaly.memory import reserved
from anomaly.telemetry.hash_table import (
    BYTES,
    FILLED,
    FREE,
    HIGH,
    META,
    MOST,
    MOVED,
    SEED,
    SHORT,
    IndexArrays,
    compact,
    fill,
    forget,
    measure,
    move,
    number,
    put,
    spell,
)
from anomaly.telemetry.text import Text

LONG_BYTES = 208
"""Room for a long string, on average, in reserved address space."""
_NOTHING = np.zeros(0, np.int64)
_number_all = direct(number)


class Index:
    """Gives each new string the next number, from 0; numbers of strings that were removed are given again."""

    def __init__(self, capacity: int) -> None:
        self._capacity = min(capacity, MOST)
        meta = np.zeros(META, np.int64)
        meta[SEED] = secrets.randbits(62)
        self._arrays = IndexArrays(
            cells=reserved(self._capacity, 2, np.uint64),
            table=np.zeros(1_024, np.uint32),
            old=np.zeros(1, np.uint32),
            long=reserved(self._capacity, LONG_BYTES, np.uint8).reshape(-1),
            free=reserved(self._capacity, 1, np.int32).reshape(-1),
            meta=meta,
        )

    @property
    def high(self) -> int:
        """All numbers are below this."""
        return int(self._arrays.meta[HIGH])

    def __len__(self) -> int:
        return self.high - int(self._arrays.meta[FREE])

    def find(self, text: Text) -> NDArray[np.int64]:
        """Numbers of n strings, int64[n]; -1 for one that has none."""
        return self._find(text)[0]

    def _find(self, text: Text) -> tuple[NDArray[np.int64], int]:
        """Their numbers, and how many have none."""
        out = np.empty(len(text), np.int64)
        return out, _number(text, False, self._arrays, out)

    def number(self, text: Text) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of n strings, int64[n], and those that were given now, in the order in which their strings came; none
        of the strings may be empty.

        Raises OverflowError when there is no room for all of them; then none was added.
        """
        out, count = self._find(text)
        if not count:
            return out, _NOTHING
        unknown = np.flatnonzero(out < 0)
        self._make_room(text, unknown)
        given = np.empty(len(unknown), np.int64)
        _number(text.take(unknown), True, self._arrays, given)
        out[unknown] = given
        new, first = np.unique(given, return_index=True)
        return out, new[np.argsort(first)]

    def names(self, numbers: NDArray[np.int64]) -> Text:
        """The strings of numbers in use."""
        lengths = np.empty(len(numbers), np.int64)
        measure(numbers, self._arrays, lengths)
        edge = np.concatenate([[0], np.cumsum(lengths)])
        buffer = np.empty(edge[-1], np.uint8)
        spell(numbers, self._arrays, edge, buffer)
        return Text(buffer, edge[:-1], edge[1:])

    def remove(self, numbers: NDArray[np.int64]) -> None:
        """Forget the strings of numbers in use; the numbers will be given again."""
        forget(numbers, self._arrays)

    def used(self, first: int = 0, last: int | None = None) -> NDArray[np.int64]:
        """The numbers in use from `first` up to `last`, ascending."""
        return first + np.flatnonzero(self._arrays.cells[first : self.high if last is None else last, 1])

    def place(self, numbers: NDArray[np.int64], text: Text) -> None:
        """Say what has which number, whatever was said before; `settle` then makes it searchable."""
        meta = self._arrays.meta
        self._make_long_room(text)
        put(text.buffer, text.start, text.stop, numbers, self._arrays, np.empty((1, 3), np.uint64))
        meta[HIGH] = max(meta[HIGH], int(numbers.max(initial=-1)) + 1)

    def clear(self, numbers: NDArray[np.int64]) -> None:
        """Say that numbers are not in use, whatever was said before; `settle` then makes it so."""
        self._arrays.cells[numbers] = 0

    def settle(self) -> None:
        """Make what `place` and `clear` said searchable."""
        meta = self._arrays.meta
        unused = np.flatnonzero(self._arrays.cells[: self.high, 1] == 0)
        self._arrays.free[: len(unused)] = unused[::-1]
        meta[FREE] = len(unused)
        self._new_table(len(self))
        self._arrays = self._arrays._replace(old=np.zeros(1, np.uint32))
        fill(self._arrays)

    def _make_room(self, text: Text, unknown: NDArray[np.int64]) -> None:
        arrays, more = self._arrays, len(unknown)
        if len(self) + more > self._capacity:
            raise OverflowError(f"{len(self) + more:,} strings, room is for {self._capacity:,}")
        self._make_long_room(text.take(unknown))
        if len(arrays.old) > 1 and not move(arrays, 16 * more + 4_096):
            self._arrays = arrays = arrays._replace(old=np.zeros(1, np.uint32))
        if arrays.meta[FILLED] + more > 0.6 * len(arrays.table):
            if len(arrays.old) > 1:
                move(arrays, len(arrays.old))
            self._new_table(len(self) + more)

    def _new_table(self, count: int) -> None:
        size = 1 << max(10, int(count * 2.5).bit_length())
        self._arrays = self._arrays._replace(table=np.zeros(size, np.uint32), old=self._arrays.table)
        self._arrays.meta[[FILLED, MOVED]] = 0

    def _make_long_room(self, text: Text) -> None:
        lengths = text.stop - text.start
        need = int((lengths[lengths > SHORT] + 4).sum())
        if self._arrays.meta[BYTES] + need <= len(self._arrays.long):
            return
        tidy = reserved(1, 2 * int(self._arrays.meta[BYTES] + need), np.uint8).reshape(-1)
        compact(self._arrays, tidy)
        self._arrays = self._arrays._replace(long=tidy)


def _number(text: Text, add: bool, arrays: IndexArrays, out: NDArray[np.int64]) -> int:
    keys = np.empty((len(text), 3), np.uint64)
    start, stop = np.ascontiguousarray(text.start, np.int64), np.ascontiguousarray(text.stop, np.int64)
    return _number_all(text.buffer, start, stop, add, arrays, keys, out)

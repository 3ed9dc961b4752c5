"""The kernels of a hash table of strings that compares the real bytes and never stops to grow.

The table has open addressing with linear probing; when it is full, a larger one takes its entries over in steps, a few
at every call. A string of up to 15 bytes lies in its cell with its length; of a longer one the cell holds a hash and
where its bytes are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import kernel, load64, part, prefetch

U8 = np.uint64
EMPTY, DELETED = np.uint32(0), np.uint32(1)
NUMBER_BITS = 24
MOST = (1 << NUMBER_BITS) - 4
"""Strings at most: a table's entry is 24 bits of number and 8 bits of hash."""
SHORT = 15
Place = int | np.int64
LONG = np.uint64(255 << 56)

# Columns of `meta`: numbers given so far, numbers on the free stack, entries in the table (deleted ones too), bytes of
# long strings, how far the old table was taken over, and the seed of the hash, against strings made to collide.
HIGH, FREE, FILLED, BYTES, MOVED, SEED, META = 0, 1, 2, 3, 4, 5, 6


class IndexArrays(NamedTuple):
    """An index as the kernels take it: `cells` [capacity, 2] one string each (0: none), `table` and `old` hash to
    number + 2, `long` the bytes of long strings after their length (4 bytes), `free` numbers to be given again."""

    cells: NDArray[np.uint64]
    table: NDArray[np.uint32]
    old: NDArray[np.uint32]
    long: NDArray[np.uint8]
    free: NDArray[np.int32]
    meta: NDArray[np.int64]


@part
def word(buffer: NDArray[np.uint8], at: Place, stop: Place) -> np.uint64:
    """The up to 8 bytes from `at` on as a number, the first the lowest."""
    if at + 8 <= buffer.shape[0]:
        whole: np.uint64 = load64(buffer, at)
        return whole if stop - at >= 8 else whole & ((U8(1) << U8(8 * (stop - at))) - U8(1))
    value = U8(0)
    for j in range(stop - at):
        value |= U8(buffer[at + j]) << U8(8 * j)
    return value


@part
def mix(a: np.uint64, b: np.uint64) -> np.uint64:
    """Both words into one, every bit of it depending on all of theirs (the finaliser of MurmurHash3, twice)."""
    h = (a ^ (a >> U8(33))) * U8(0xFF51AFD7ED558CCD)
    h = ((h ^ (h >> U8(33))) ^ b) * U8(0xC4CEB9FE1A85EC53)
    h = (h ^ (h >> U8(29))) * U8(0x9E3779B97F4A7C15)
    return h ^ (h >> U8(32))


@part
def hashed(a: np.uint64, b: np.uint64, arrays: IndexArrays) -> np.uint64:
    """The hash of a cell; a long string's cell has its own in the second word."""
    seed = U8(arrays.meta[SEED])
    return mix(seed, b) if b >= LONG else mix(a ^ seed, b)


@part
def key(buffer: NDArray[np.uint8], start: int, stop: int, i: int, keys: NDArray[np.uint64]) -> None:
    """The two words of a string's cell; the first of a long one's, its place, is not known yet."""
    length = stop - start
    if length <= SHORT:
        keys[i, 0] = word(buffer, start, stop)
        keys[i, 1] = (word(buffer, start + 8, stop) if length > 8 else U8(0)) | (U8(length) << U8(56))
    else:
        h = U8(length)
        for at in range(start, stop, 8):
            h = mix(h, word(buffer, at, stop))
        keys[i, 0] = U8(0)
        keys[i, 1] = LONG | (h >> U8(8))


@part
def is_it(
    buffer: NDArray[np.uint8], start: int, stop: int, i: int, keys: NDArray[np.uint64], cell: Place, arrays: IndexArrays
) -> bool:
    """Whether the cell holds this very string."""
    if arrays.cells[cell, 1] != keys[i, 1]:
        return False
    if keys[i, 1] < LONG:
        return bool(arrays.cells[cell, 0] == keys[i, 0])
    at = np.int64(arrays.cells[cell, 0])
    if word(arrays.long, at, at + 4) != U8(stop - start):
        return False
    equal = True
    for j in range(0, stop - start, 8):
        equal = equal and word(arrays.long, at + 4 + j, at + 4 + stop - start) == word(buffer, start + j, stop)
    return bool(equal)


@part
def look(
    buffer: NDArray[np.uint8],
    start: int,
    stop: int,
    i: int,
    keys: NDArray[np.uint64],
    table: NDArray[np.uint32],
    arrays: IndexArrays,
) -> int:
    """The number of a string by one table, -1 if it is not there."""
    mask = U8(table.shape[0] - 1)
    place = keys[i, 2] & mask
    tag = np.uint32(keys[i, 2] >> U8(56))
    while table[place] != EMPTY:
        entry = table[place]
        if entry != DELETED and entry >> np.uint32(NUMBER_BITS) == tag:
            cell = np.int64(entry & np.uint32(0xFFFFFF)) - 2
            if is_it(buffer, start, stop, i, keys, cell, arrays):
                return int(cell)
        place = (place + U8(1)) & mask
    return -1


@part
def enter(cell: Place, h: np.uint64, arrays: IndexArrays) -> None:
    """An entry for a cell that is in no table yet."""
    mask = U8(arrays.table.shape[0] - 1)
    place = h & mask
    while arrays.table[place] > DELETED:
        place = (place + U8(1)) & mask
    if arrays.table[place] == EMPTY:
        arrays.meta[FILLED] += 1
    arrays.table[place] = np.uint32((h >> U8(56)) << U8(NUMBER_BITS)) | np.uint32(cell + 2)


@part
def write(
    buffer: NDArray[np.uint8], start: int, stop: int, i: int, keys: NDArray[np.uint64], cell: int, arrays: IndexArrays
) -> None:
    """Write a string into a cell."""
    arrays.cells[cell, 1] = keys[i, 1]
    if keys[i, 1] < LONG:
        arrays.cells[cell, 0] = keys[i, 0]
    else:
        at = arrays.meta[BYTES]
        arrays.cells[cell, 0] = U8(at)
        for j in range(4):
            arrays.long[at + j] = ((stop - start) >> (8 * j)) & 255
        for j in range(stop - start):
            arrays.long[at + 4 + j] = buffer[start + j]
        arrays.meta[BYTES] = at + 4 + stop - start


@kernel
def number(
    buffer: NDArray[np.uint8],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    add: bool,
    arrays: IndexArrays,
    keys: NDArray[np.uint64],
    out: NDArray[np.int64],
) -> int:
    """Numbers of strings, -1 or a new one where there is none; `keys` [n, 3] is scratch. Answers how many have -1."""
    count, missing = start.shape[0], 0
    mask = U8(arrays.table.shape[0] - 1)
    for i in range(count):
        key(buffer, start[i], stop[i], i, keys)
        keys[i, 2] = hashed(keys[i, 0], keys[i, 1], arrays)
        prefetch(arrays.table, np.int64(keys[i, 2] & mask) * 4)
    for i in range(count):
        if i + 8 < count:
            entry = arrays.table[keys[i + 8, 2] & mask]
            prefetch(arrays.cells, (np.int64(entry & np.uint32(0xFFFFFF)) - 2) * 16 if entry > DELETED else 0)
        found = look(buffer, start[i], stop[i], i, keys, arrays.table, arrays)
        if found < 0 and arrays.old.shape[0] > 1:
            found = look(buffer, start[i], stop[i], i, keys, arrays.old, arrays)
        if found < 0 and add:
            if arrays.meta[FREE] > 0:
                arrays.meta[FREE] -= 1
                found = int(arrays.free[arrays.meta[FREE]])
            else:
                found = int(arrays.meta[HIGH])
                arrays.meta[HIGH] += 1
            write(buffer, start[i], stop[i], i, keys, found, arrays)
            enter(found, keys[i, 2], arrays)
        out[i] = found
        missing += 1 if found < 0 else 0
    return missing


@kernel
def move(arrays: IndexArrays, steps: int) -> bool:
    """Take up to `steps` places of the old table over; whether any are left."""
    first = arrays.meta[MOVED]
    last = min(first + steps, arrays.old.shape[0])
    for place in range(first, last):
        if arrays.old[place] > DELETED:
            cell = np.int64(arrays.old[place] & np.uint32(0xFFFFFF)) - 2
            enter(cell, hashed(arrays.cells[cell, 0], arrays.cells[cell, 1], arrays), arrays)
    arrays.meta[MOVED] = last
    return bool(last < arrays.old.shape[0])


@part
def strike(cell: int, h: np.uint64, table: NDArray[np.uint32]) -> None:
    """Mark the entry of a cell as deleted, where the table has one."""
    mask = U8(table.shape[0] - 1)
    place = h & mask
    while table[place] != EMPTY:
        if np.int64(table[place] & np.uint32(0xFFFFFF)) - 2 == cell:
            table[place] = DELETED
            return
        place = (place + U8(1)) & mask


@kernel
def forget(numbers: NDArray[np.int64], arrays: IndexArrays) -> None:
    """Remove strings from both tables and put their numbers on the free stack."""
    for i in range(numbers.shape[0]):
        cell = numbers[i]
        h = hashed(arrays.cells[cell, 0], arrays.cells[cell, 1], arrays)
        strike(cell, h, arrays.table)
        if arrays.old.shape[0] > 1:
            strike(cell, h, arrays.old)
        arrays.cells[cell, 0] = U8(0)
        arrays.cells[cell, 1] = U8(0)
        arrays.free[arrays.meta[FREE]] = cell
        arrays.meta[FREE] += 1


@kernel
def put(
    buffer: NDArray[np.uint8],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    numbers: NDArray[np.int64],
    arrays: IndexArrays,
    keys: NDArray[np.uint64],
) -> None:
    """Write strings into given cells, into no table."""
    for i in range(numbers.shape[0]):
        key(buffer, start[i], stop[i], 0, keys)
        write(buffer, start[i], stop[i], 0, keys, numbers[i], arrays)


@kernel
def fill(arrays: IndexArrays) -> None:
    """Entries for all cells in use, into an empty table."""
    for cell in range(arrays.meta[HIGH]):
        if arrays.cells[cell, 1] != U8(0):
            enter(cell, hashed(arrays.cells[cell, 0], arrays.cells[cell, 1], arrays), arrays)


@kernel
def measure(numbers: NDArray[np.int64], arrays: IndexArrays, lengths: NDArray[np.int64]) -> None:
    """Bytes of the strings of numbers."""
    for i in range(numbers.shape[0]):
        cell = numbers[i]
        length = arrays.cells[cell, 1] >> U8(56)
        if length == U8(255):
            at = np.int64(arrays.cells[cell, 0])
            length = word(arrays.long, at, at + 4)
        lengths[i] = np.int64(length)


@kernel
def spell(numbers: NDArray[np.int64], arrays: IndexArrays, edge: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
    """The bytes of the strings of numbers, string i to `out[edge[i]:edge[i + 1]]`."""
    for i in range(numbers.shape[0]):
        cell = numbers[i]
        for j in range(edge[i + 1] - edge[i]):
            if arrays.cells[cell, 1] >= LONG:
                out[edge[i] + j] = arrays.long[np.int64(arrays.cells[cell, 0]) + 4 + j]
            else:
                out[edge[i] + j] = np.uint8((arrays.cells[cell, j >> 3] >> U8(8 * (j & 7))) & U8(255))


@kernel
def compact(arrays: IndexArrays, tidy: NDArray[np.uint8]) -> None:
    """Copy the long strings that are in use, one after the other, to `tidy`."""
    end = 0
    for cell in range(arrays.meta[HIGH]):
        if arrays.cells[cell, 1] >= LONG:
            at = np.int64(arrays.cells[cell, 0])
            size = 4 + int(word(arrays.long, at, at + 4))
            for j in range(size):
                tidy[end + j] = arrays.long[at + j]
            arrays.cells[cell, 0] = U8(end)
            end += size
    arrays.meta[BYTES] = end

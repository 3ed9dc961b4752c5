"""MessagePack readings of known shapes: maps with their keys in one order, each number in any of its forms.

Taken are text in ASCII, numbers of every kind and nil; they give the values that msgspec gives.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import kernel, load64, part
from anomaly.telemetry.shapes import (
    CONTEXT,
    COUNT,
    END,
    LONGEST_CONTEXT,
    MOST_ID,
    MOST_UNKNOWN,
    NUMBER,
    SIGNAL,
    TEXT,
    TIME,
    U8,
    VEHICLE,
    Book,
    Out,
    Piece,
    Shape,
    Whole,
    starts_with,
)

_WIDTHS = {0xC0: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
"""Bytes behind the first one of nil and of numbers."""
_ONE_BYTE = {*range(0x80), *range(0xE0, 0x100)}


def learn(message: bytes, at: int, columns: Sequence[str]) -> Shape | None:
    """The shape of the reading that begins at `at`; None where it has something that is not plain."""
    learner = _Learner(message, at, columns)
    try:
        return learner.shape()
    except (IndexError, UnicodeDecodeError, _NotPlain):
        return None


class _NotPlain(Exception):
    """Something that no kernel reads."""


class _Learner:
    """Walks one reading and notes its pieces."""

    def __init__(self, message: bytes, at: int, columns: Sequence[str]) -> None:
        self._message = message
        self._at = self._begin = at
        self._columns = {name: place for place, name in enumerate(columns)}
        self._pieces: list[Piece] = []
        self._unknown: list[str] = []

    def shape(self) -> Shape | None:
        """What the reading is; raises IndexError, UnicodeDecodeError or _NotPlain where it is none."""
        names: set[str] = set()
        for _ in range(self._size()):
            name = self._key(names)
            if name == "signals":
                self._signals()
            else:
                self._field(name)
        if not {"vehicle", "ts", "signals"} <= names or len(self._unknown) > MOST_UNKNOWN:
            return None
        self._pieces.append(Piece(self._message[self._begin : self._at], END))
        return Shape(tuple(self._pieces), tuple(self._unknown))

    def _size(self) -> int:
        """Entries of the map that begins here, up to 65,535."""
        first = self._message[self._at]
        self._at += 1
        if first == 0xDE:
            self._at += 2
            return int.from_bytes(self._message[self._at - 2 : self._at], "big")
        if first & 0xF0 != 0x80:
            raise _NotPlain
        return first & 0x0F

    def _key(self, seen: set[str]) -> str:
        self._at, begin = self._text()
        name = self._message[begin : self._at].decode()
        if name in seen:
            raise _NotPlain
        seen.add(name)
        return name

    def _text(self) -> tuple[int, int]:
        """Where the text that begins here ends, and where its bytes begin."""
        first = self._message[self._at]
        if first & 0xE0 == 0xA0:
            return self._at + 1 + (first & 0x1F), self._at + 1
        if first == 0xD9:
            return self._at + 2 + self._message[self._at + 1], self._at + 2
        raise _NotPlain

    def _number(self) -> int:
        """Where the number or nil that begins here ends."""
        first = self._message[self._at]
        if first not in _WIDTHS and first not in _ONE_BYTE:
            raise _NotPlain
        return self._at + 1 + _WIDTHS.get(first, 0)

    def _note(self, end: int, kind: int, column: int = -1) -> None:
        text = self._message[self._begin : self._at]
        self._pieces.append(Piece(text, kind, column, kind == SIGNAL and column >= 0))
        self._at = self._begin = end

    def _signals(self) -> None:
        here = self._at
        count = self._size()
        after, self._at = self._at, here
        self._note(after, COUNT)
        seen: set[str] = set()
        for _ in range(count):
            name = self._key(seen)
            if name not in self._columns:
                self._unknown.append(f"signals.{name}"[:200])
            self._note(self._number(), SIGNAL, self._columns.get(name, -1))

    def _field(self, name: str) -> None:
        first = self._message[self._at]
        if (name == "v" and first == 1) or (name == "context" and first == 0xC0):
            self._at += 1
        elif name == "context":
            self._note(self._context(), CONTEXT)
        elif name == "vehicle":
            self._note(self._text()[0], VEHICLE)
        elif name == "ts":
            self._note(self._number(), TIME)
        elif name == "v":
            raise _NotPlain
        else:
            self._unknown.append(name[:200])
            is_text = first & 0xE0 == 0xA0 or first == 0xD9
            self._note(self._text()[0] if is_text else self._number(), TEXT if is_text else NUMBER)

    def _context(self) -> int:
        here = self._at
        for _ in range(2 * self._size()):
            self._at = self._at + 1 if self._message[self._at] == 0xC0 else self._text()[0]
        end, self._at = self._at, here
        return end


@part
def big(word: np.uint64, count: Whole) -> np.uint64:
    """The first `count` (1 to 8) of 8 bytes as a number, the first the highest."""
    word = ((word & U8(0x00FF00FF00FF00FF)) << U8(8)) | ((word >> U8(8)) & U8(0x00FF00FF00FF00FF))
    word = ((word & U8(0x0000FFFF0000FFFF)) << U8(16)) | ((word >> U8(16)) & U8(0x0000FFFF0000FFFF))
    word = (word << U8(32)) | (word >> U8(32))
    return word >> U8(64 - 8 * count)


@part
def integer(buffer: NDArray[np.uint8], at: Whole) -> Whole:
    """The integer that begins at `at`; one above 2**62 is answered as 2**62 + 1, a first byte of none as that too."""
    none = np.int64((1 << 62) + 1)
    first = buffer[at]
    if first < 128:
        return np.int64(first)
    if first >= 224:
        return np.int64(first) - 256
    if 204 <= first <= 207:
        word = big(load64(buffer, at + 1), 1 << (first - 204))
        return np.int64(word) if word <= U8(1 << 62) else none
    if 208 <= first <= 211:
        count = 1 << (first - 208)
        shift = 64 - 8 * count
        whole = np.int64(big(load64(buffer, at + 1), count) << U8(shift))
        return whole >> np.int64(shift)
    return none


@part
def width(first: Whole) -> Whole:
    """Bytes of a number or nil by its first one; 0 if it is neither."""
    if first < 128 or first >= 224 or first == 192:
        return 1
    if first == 202:
        return 5
    if first == 203:
        return 9
    if 204 <= first <= 207:
        return 1 + (1 << (first - 204))
    if 208 <= first <= 211:
        return 1 + (1 << (first - 208))
    return 0


@part
def number(buffer: NDArray[np.uint8], at: Whole, row: Whole, column: Whole, out: Out) -> Whole:
    """Read a number or nil into `out.values`; where it ends, -1 if it is neither or an integer above 2**62."""
    first = np.int64(buffer[at])
    size = width(first)
    if size == 0:
        return -1
    if first == 203:
        value = np.uint64(big(load64(buffer, at + 1), 8)).view(np.float64)
    elif first == 202:
        value = np.float64(np.uint32(big(load64(buffer, at + 1), 4)).view(np.float32))
    elif first == 192:
        value = np.float64(np.nan)
    else:
        whole = integer(buffer, at)
        if whole > 1 << 62:
            return -1
        value = np.float64(whole)
    if column >= 0:
        out.values[row, column] = np.float32(value)
    return at + size


@part
def behind_header(buffer: NDArray[np.uint8], at: Whole) -> Whole:
    """Where the bytes of a text of up to 255 of them begin, -1 if there is none."""
    first = buffer[at]
    if 160 <= first <= 191:
        return at + 1
    return at + 2 if first == 217 else -1


@part
def length(buffer: NDArray[np.uint8], at: Whole) -> Whole:
    """Bytes of the text whose header is at `at`."""
    return np.int64(buffer[at + 1]) if buffer[at] == 217 else np.int64(buffer[at]) - 160


@part
def plain(buffer: NDArray[np.uint8], at: Whole, stop: Whole) -> bool:
    """Whether all bytes from `at` up to `stop` are ASCII."""
    some = U8(0)
    for place in range(at, stop, 8):
        word = load64(buffer, place)
        if stop - place < 8:
            word &= (U8(1) << U8(8 * (stop - place))) - U8(1)
        some |= word
    return bool(some & U8(0x8080808080808080) == U8(0))


@part
def context(buffer: NDArray[np.uint8], at: Whole, stop: Whole) -> Whole:
    """Where a map of at most 15 texts or nils ends, -1 if there is none."""
    if at >= stop or buffer[at] & 240 != 128:
        return -1
    entries = 2 * (np.int64(buffer[at]) & 15)
    at += 1
    for _ in range(entries):
        if at >= stop:
            return -1
        if buffer[at] == 192:
            at += 1
        else:
            begin = behind_header(buffer, at)
            if begin < 0:
                return -1
            at = begin + length(buffer, at)
    return at if at <= stop else -1


@part
def text(buffer: NDArray[np.uint8], at: Whole, stop: Whole) -> Whole:
    """Where the plain text whose header is at `at` ends, -1 if there is none."""
    begin = behind_header(buffer, at)
    if begin < 0:
        return -1
    end = begin + length(buffer, at)
    return end if end <= stop and plain(buffer, begin, end) else -1


@part
def reading(buffer: NDArray[np.uint8], at: Whole, stop: Whole, t: Whole, row: Whole, book: Book, out: Out) -> Whole:
    """Read what stands at `at` as a reading of shape t into a row; where it ends, -1 if it is none.

    Bytes from `stop` on may be looked at, PADDING of them at most, but never become part of a reading.
    """
    for place in range(book.absent_first[t], book.absent_first[t + 1]):
        out.values[row, book.absent[place]] = np.float32(np.nan)
    out.context[row] = -1
    piece = book.first[t]
    left = np.int64(0)
    while at >= 0:
        kind = book.kind[piece]
        if at + book.length[piece] > stop or not starts_with(buffer, at, book, piece):
            if book.skippable[piece] == 0:
                return -1
            out.values[row, book.column[piece]] = np.float32(np.nan)
            piece += 1
            continue
        at += book.length[piece]
        begin = at
        if kind == SIGNAL:
            at = number(buffer, at, row, book.column[piece], out)
            left -= 1
        elif kind == END:
            return at if left == 0 else -1
        elif kind == COUNT:
            if buffer[at] & 240 == 128:
                left = np.int64(buffer[at]) & 15
                at += 1
            elif buffer[at] == 222:
                left = np.int64(buffer[at + 1]) * 256 + np.int64(buffer[at + 2])
                at += 3
            else:
                return -1
        elif kind == TIME:
            out.ts[row] = integer(buffer, at)
            size = width(np.int64(buffer[at]))
            if size == 0 or out.ts[row] > 1 << 62 or out.ts[row] < -(1 << 62):
                return -1
            at += size
        elif kind == VEHICLE:
            at = text(buffer, at, stop)
            if at >= 0:
                out.start[row] = behind_header(buffer, begin)
                out.stop[row] = at
                if at == out.start[row] or at - out.start[row] > MOST_ID:
                    return -1
        elif kind == CONTEXT:
            at = context(buffer, at, stop)
            if at - begin > LONGEST_CONTEXT:
                return -1
            out.context[row] = begin
            out.context_stop[row] = at
        elif kind == TEXT:
            at = text(buffer, at, stop)
        else:
            at = number(buffer, at, row, -1, out)
        piece += 1
    return -1


@kernel
def scan(buffer: NDArray[np.uint8], edge: NDArray[np.int64], book: Book, out: Out) -> Whole:
    """Read messages, message i `buffer[edge[i]:edge[i + 1]]`, as readings or arrays of them; answers the rows filled.

    Behind the last message there are PADDING bytes more. A message is ok where all of it fits.
    """
    shapes = book.first.shape[0] - 1
    rows = out.ts.shape[0]
    row = last = 0
    out.note[0] = -1
    for i in range(edge.shape[0] - 1):
        at, stop = edge[i], edge[i + 1]
        left = np.int64(1)
        first = buffer[at] if at < stop else np.uint8(0)
        if first & 240 == 144:
            left = np.int64(first) & 15
            at += 1
        elif first == 220 or first == 221:
            count = 2 if first == 220 else 4
            left = np.int64(big(load64(buffer, at + 1), count))
            at += 1 + count
        begin = row
        some = left > 0
        while left > 0 and row < rows and shapes > 0:
            found: Whole = -1
            trial = 0
            shape = last
            while found < 0 and trial <= shapes:
                shape = last if trial == 0 else trial - 1
                if trial == 0 or shape != last:
                    found = reading(buffer, at, stop, shape, row, book, out)
                trial += 1
            if found < 0:
                break
            last = shape
            book.hits[last] += 1
            if row == 0:
                out.note[2] = last
            out.message[row] = i
            row += 1
            left -= 1
            at = found
        out.ok[i] = some and left == 0 and at == stop
        if not out.ok[i]:
            row = begin
            if out.note[0] < 0:
                out.note[0] = i
                out.note[1] = at
    return row

"""JSON readings of known shapes, read 8 bytes at a time.

Taken are plain values only: numbers that fit 18 digits, text in ASCII without escapes. They give the float32 that
comes of the float64 nearest to the text, which is what msgspec gives.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import kernel, load64, part, trailing_zeros
from anomaly.telemetry.shapes import (
    CONTEXT,
    END,
    LONGEST_CONTEXT,
    MOST_ID,
    MOST_UNKNOWN,
    NUMBER,
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

_PLAIN = rb'[^"\\\x00-\x1f\x80-\xff]*'
_TEXT = re.compile(rb'"(' + _PLAIN + rb')"')
_KEY = re.compile(rb'[ \t\r\n]*"(' + _PLAIN + rb')"[ \t\r\n]*:[ \t\r\n]*')
_AFTER = re.compile(rb"[ \t\r\n]*([,}])")
_NUMBER = re.compile(rb"(-?[0-9][0-9.eE+-]*|null)")
_CONTEXT = re.compile(rb"\{([^{}\\\x00-\x1f\x80-\xff]*)\}")
_FIXED = {b"v": re.compile(rb"1(?![0-9.eE])"), b"context": re.compile(rb"null")}
_KINDS = {b"vehicle": ((_TEXT, VEHICLE),), b"ts": ((_NUMBER, TIME),), b"context": ((_CONTEXT, CONTEXT),)}
_OTHER = ((_NUMBER, NUMBER), (_TEXT, TEXT))


def learn(message: bytes, at: int, columns: Sequence[str]) -> Shape | None:
    """The shape of the reading that begins at `at`; None where it has something that is not plain."""
    learner = _Learner(message, at, columns)
    return learner.shape() if learner.read() else None


class _Learner:
    """Walks one reading and notes its pieces."""

    def __init__(self, message: bytes, at: int, columns: Sequence[str]) -> None:
        self._message = message
        self._at = self._begin = at
        self._columns = {name.encode(): place for place, name in enumerate(columns)}
        self._pieces: list[Piece] = []
        self._unknown: list[str] = []
        self._names: set[bytes] = set()

    def shape(self) -> Shape | None:
        """What was read."""
        kinds = [piece.kind for piece in self._pieces]
        if not {VEHICLE, TIME} <= set(kinds) or b"signals" not in self._names or len(self._unknown) > MOST_UNKNOWN:
            return None
        end = Piece(self._message[self._begin : self._at], END)
        return Shape((*self._pieces, end), tuple(self._unknown))

    def read(self) -> bool:
        """Whether all of the reading is plain."""
        return self._object(self._names, self._field)

    def _object(self, seen: set[bytes], value: object) -> bool:
        if self._message[self._at : self._at + 1] != b"{":
            return False
        mark = b","
        while mark == b",":
            key = _KEY.match(self._message, self._at + 1)
            if key is None or key[1] in seen:
                return False
            self._at = key.end()
            if not value(key[1], not seen):  # type: ignore[operator]
                return False
            seen.add(key[1])
            after = _AFTER.match(self._message, self._at)
            if after is None:
                return False
            mark, self._at = after[1], after.end() - 1
        self._at += 1
        return True

    def _field(self, name: bytes, _first: bool) -> bool:
        if name == b"signals":
            return self._object(set(), self._signal)
        fixed = _FIXED[name].match(self._message, self._at) if name in _FIXED else None
        if fixed is not None:
            self._at = fixed.end()
            return True
        if name == b"v":
            return False
        if name not in _KINDS:
            self._unknown.append(name.decode())
        return any(self._value(pattern, kind) for pattern, kind in _KINDS.get(name, _OTHER))

    def _signal(self, name: bytes, first: bool) -> bool:
        column = self._columns.get(name, -1)
        if column < 0:
            self._unknown.append(f"signals.{name.decode()}")
        return self._value(_NUMBER, NUMBER, column, column >= 0 and not first)

    def _value(self, pattern: re.Pattern[bytes], kind: int, column: int = -1, skippable: bool = False) -> bool:
        found = pattern.match(self._message, self._at)
        if found is None:
            return False
        self._pieces.append(Piece(self._message[self._begin : found.start(1)], kind, column, skippable))
        self._at, self._begin = found.end(), found.end(1)
        return True


@part
def others(word: np.uint64) -> np.uint64:
    """Which of 8 bytes are no digits: the highest bit of each that is none."""
    word ^= U8(0x3030303030303030)
    return ((word + U8(0x7676767676767676)) | word) & U8(0x8080808080808080)


@part
def value_of(word: np.uint64, count: np.uint64) -> np.uint64:
    """The number that the first `count` of 8 bytes, 1 to 8 digits, are.

    They are added up in three multiplications (D. Lemire, "Quickly parsing eight digits").
    """
    word = (word ^ U8(0x3030303030303030)) << (U8(64) - (count << U8(3)))
    word = word * U8(10) + (word >> U8(8))
    pairs = U8(0x000000FF000000FF)
    return ((word & pairs) * U8(0x000F424000000064) + ((word >> U8(16)) & pairs) * U8(0x0000271000000001)) >> U8(32)


@part
def digits(word: np.uint64) -> np.uint64:
    """How many of 8 bytes are leading digits, in the upper half, and their value in the lower."""
    other = others(word)
    count = U8(8) if other == U8(0) else trailing_zeros(other) >> U8(3)
    return U8(0) if count == U8(0) else value_of(word, count) | (count << U8(32))


@part
def exponent(buffer: NDArray[np.uint8], at: Whole, stop: Whole) -> Whole:
    """A JSON exponent from behind its e on: its value times 256, plus 128, plus the bytes it has; 0 if it is none.

    `at + bytes` does not pass `stop`; the value is within +-99.
    """
    begin = at
    negative = buffer[at] == 45
    first = at + 1 if negative or buffer[at] == 43 else at
    at = first
    value: Whole = 0
    while at < stop and at - first < 3 and 48 <= buffer[at] <= 57:
        value = value * 10 + np.int64(buffer[at]) - 48
        at += 1
    if at == first or at - first == 3:
        return 0
    return (-value if negative else value) * 256 + 128 + at - begin


@part
def number(buffer: NDArray[np.uint8], at: Whole, stop: Whole, book: Book, row: Whole, column: Whole, out: Out) -> Whole:
    """Read a JSON number or null into `out.values`; where it ends, -1 if it is not plain.

    Up to 15 digits and powers of ten up to 22 are exact in float64, so that one operation rounds correctly. Of up to
    18 digits the result is off by less than 2**-51 of it; it counts where all within 2**-50 are the same float32.
    """
    negative = buffer[at] == 45
    if negative:
        at += 1
    word = load64(buffer, at)
    other = others(word)
    count: Whole = np.int64(8) if other == U8(0) else np.int64(trailing_zeros(other) >> U8(3))
    if count > 1 and word & U8(0xFF) == U8(48):
        return -1
    places: Whole = 0
    rest = other & (other - U8(1))  # without the first that is no digit: where a point is, the next one ends the number
    if count > 0 and rest != U8(0) and (word >> U8(8 * count)) & U8(0xFF) == U8(46):
        places = np.int64(trailing_zeros(rest) >> U8(3)) - count - 1
    if places > 0:
        low = (U8(1) << U8(8 * count)) - U8(1)
        whole = value_of((word & low) | ((word >> U8(8)) & ~low), U8(count + places))
        at += count + 1 + places
    else:
        packed = digits(load64(buffer, at))
        count = np.int64(packed >> U8(32))
        whole = packed & U8(0xFFFFFFFF)
        at += count
        if count == 8:
            packed = digits(load64(buffer, at))
            more = np.int64(packed >> U8(32))
            whole = whole * book.tens[more] + (packed & U8(0xFFFFFFFF))
            at += more
            count += more
            if more == 8:
                packed = digits(load64(buffer, at))
                more = np.int64(packed >> U8(32))
                if more > 2:
                    return -1
                whole = whole * book.tens[more] + (packed & U8(0xFFFFFFFF))
                at += more
                count += more
        if count == 0:
            if negative or load64(buffer, at) & U8(0xFFFFFFFF) != U8(0x6C6C756E):
                return -1
            if column >= 0:
                out.values[row, column] = np.float32(np.nan)
            return at + 4
        places = 0
        if buffer[at] == 46:
            at += 1
            more = np.int64(8)
            while more == 8:
                packed = digits(load64(buffer, at))
                more = np.int64(packed >> U8(32))
                places += more
                if count + places > 18:
                    return -1
                whole = whole * book.tens[more] + (packed & U8(0xFFFFFFFF))
                at += more
            if places == 0:
                return -1
    power: Whole = -places
    if buffer[at] | 32 == 101:
        found = exponent(buffer, at + 1, stop)
        if found == 0:
            return -1
        power += (found - 128) >> 8
        at += 1 + (found & 127)
        if power < -22 or power > 22:
            return -1
    if negative and whole == U8(0) and places == 0:
        return -1
    value = np.float64(np.int64(whole))
    value = value / book.powers[-power] if power < 0 else value * book.powers[power]
    if count + places > 15:
        slack = value * (2.0**-50)
        if np.float32(value - slack) != np.float32(value + slack):
            return -1
    if column >= 0:
        out.values[row, column] = np.float32(-value if negative else value)
    return at


@part
def time(buffer: NDArray[np.uint8], at: Whole, book: Book, row: Whole, out: Out) -> Whole:
    """Read an integer of at most 18 digits into `out.ts`; where it ends, -1 if it is not plain."""
    negative = buffer[at] == 45
    if negative:
        at += 1
    lead = buffer[at]
    whole = U8(0)
    count: Whole = 0
    more = np.int64(8)
    while more == 8:
        packed = digits(load64(buffer, at))
        more = np.int64(packed >> U8(32))
        count += more
        if count > 18:
            return -1
        whole = whole * book.tens[more] + (packed & U8(0xFFFFFFFF))
        at += more
    if count == 0 or (lead == 48 and (negative or count > 1)):
        return -1
    out.ts[row] = -np.int64(whole) if negative else np.int64(whole)
    return at


@part
def plain(buffer: NDArray[np.uint8], at: Whole, stop: Whole, closing: np.uint64) -> Whole:
    """Where text ends before the byte that fills the word `closing`; -1 if something in it is not plain."""
    ones = U8(0x0101010101010101)
    while at < stop:
        word = load64(buffer, at)
        ends = word ^ closing
        slash = word ^ U8(0x5C5C5C5C5C5C5C5C)
        brace = word ^ U8(0x7B7B7B7B7B7B7B7B)
        hit = ((ends - ones) & ~ends) | ((slash - ones) & ~slash) | ((brace - ones) & ~brace)
        hit = (hit | ((word - U8(0x2020202020202020)) & ~word) | word) & U8(0x8080808080808080)
        if hit != U8(0):
            at += np.int64(trailing_zeros(hit) >> U8(3))
            return at if at < stop and buffer[at] == closing & U8(0xFF) else -1
        at += 8
    return -1


@part
def reading(buffer: NDArray[np.uint8], at: Whole, stop: Whole, t: Whole, row: Whole, book: Book, out: Out) -> Whole:
    """Read what stands at `at` as a reading of shape t into a row; where it ends, -1 if it is none.

    Bytes from `stop` on may be looked at, PADDING of them at most, but never become part of a reading.
    """
    for place in range(book.absent_first[t], book.absent_first[t + 1]):
        out.values[row, book.absent[place]] = np.float32(np.nan)
    out.context[row] = -1
    piece = book.first[t]
    while at >= 0:
        kind = book.kind[piece]
        if at + book.length[piece] > stop or not starts_with(buffer, at, book, piece):
            if book.skippable[piece] == 0:
                return -1
            if book.column[piece] >= 0:
                out.values[row, book.column[piece]] = np.float32(np.nan)
            piece += 1
            continue
        at += book.length[piece]
        if kind == NUMBER:
            at = number(buffer, at, stop, book, row, book.column[piece], out)
        elif kind == END:
            return at
        elif kind == TIME:
            at = time(buffer, at, book, row, out)
        elif kind == CONTEXT:
            begin = at
            at = plain(buffer, at, stop, U8(0x7D7D7D7D7D7D7D7D))
            if at - begin > LONGEST_CONTEXT:
                return -1
            out.context[row] = begin - 1
            out.context_stop[row] = at + 1
        else:
            begin = at
            at = plain(buffer, at, stop, U8(0x2222222222222222))
            if kind == VEHICLE:
                if at == begin or at - begin > MOST_ID:
                    return -1
                out.start[row] = begin
                out.stop[row] = at
        piece += 1
    return -1


@part
def skip(buffer: NDArray[np.uint8], at: Whole, stop: Whole) -> Whole:
    """Past white space."""
    while at < stop and (buffer[at] == 32 or 9 <= buffer[at] <= 10 or buffer[at] == 13):
        at += 1
    return at


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
        stop = edge[i + 1]
        at = skip(buffer, edge[i], stop)
        many = at < stop and buffer[at] == 91
        if many:
            at = skip(buffer, at + 1, stop)
        begin = row
        ended = False
        while not ended and row < rows:
            found: Whole = -1
            trial = 0
            shape = last
            while found < 0 and trial <= shapes:
                shape = last if trial == 0 else trial - 1
                if shape < shapes and (trial == 0 or shape != last):
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
            at = found
            ended = not many
            if many:
                at = skip(buffer, at, stop)
                ended = at < stop and buffer[at] == 93
                if not ended and (at >= stop or buffer[at] != 44):
                    break
                at += 1
                if not ended:
                    at = skip(buffer, at, stop)
        out.ok[i] = ended and skip(buffer, at, stop) == stop
        if not out.ok[i]:
            row = begin
            if out.note[0] < 0:
                out.note[0] = i
                out.note[1] = at
    return row

"""Shapes of messages as a kernel compares them: the bytes between values, and what each value is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import load64, part

END, VEHICLE, TIME, NUMBER, CONTEXT, TEXT, COUNT, SIGNAL = 0, 1, 2, 3, 4, 5, 6, 7
"""What comes after a piece of a shape: the end of the reading, or a value. COUNT: how many SIGNALs follow."""

MOST_SHAPES = 16
MOST_UNKNOWN = 50
"""Names that a fleet does not know in one shape; a message with more has none."""
MOST_ID = 200
PADDING = 32
"""Bytes behind a buffer that kernels may look at."""
LONGEST_CONTEXT = 1_024
"""Bytes of a context at most."""

U8 = np.uint64
Whole = int | np.int64
"""What a kernel counts with."""


class Piece(NamedTuple):
    """The bytes before a value, and what the value is: `column` of a number, -1 for one that is not kept.

    What is `skippable`, bytes and value, may be missing.
    """

    text: bytes
    kind: int
    column: int = -1
    skippable: bool = False


class Shape(NamedTuple):
    """A reading as its producer writes it, and the names in it that the fleet does not know."""

    pieces: tuple[Piece, ...]
    unknown: tuple[str, ...]


class Book(NamedTuple):
    """Shapes as arrays: those of shape t are the pieces `first[t]` up to `first[t + 1]`, piece p is compared by
    `words` and `masks` from `word[p]` on; `absent[absent_first[t]:absent_first[t + 1]]` are columns without a piece.

    `hits` int64[shapes] counts readings of each shape.
    """

    words: NDArray[np.uint64]
    masks: NDArray[np.uint64]
    word: NDArray[np.int64]
    length: NDArray[np.int64]
    kind: NDArray[np.int64]
    column: NDArray[np.int64]
    skippable: NDArray[np.int64]
    first: NDArray[np.int64]
    absent: NDArray[np.int64]
    absent_first: NDArray[np.int64]
    hits: NDArray[np.int64]
    tens: NDArray[np.uint64]
    powers: NDArray[np.float64]


def book(shapes: Sequence[Shape], columns: int) -> Book:
    """The arrays of some shapes."""
    pieces = [piece for shape in shapes for piece in shape.pieces]
    chunks = [[piece.text[at : at + 8] for at in range(0, len(piece.text), 8)] for piece in pieces]
    flat = [chunk for each in chunks for chunk in each]
    absent = [sorted(set(range(columns)) - {piece.column for piece in shape.pieces}) for shape in shapes]
    return Book(
        words=np.array([int.from_bytes(chunk, "little") for chunk in flat], U8),
        masks=np.array([(1 << (8 * len(chunk))) - 1 for chunk in flat], U8),
        word=_edges(map(len, chunks)),
        length=np.array([len(piece.text) for piece in pieces], np.int64),
        kind=np.array([piece.kind for piece in pieces], np.int64),
        column=np.array([piece.column for piece in pieces], np.int64),
        skippable=np.array([piece.skippable for piece in pieces], np.int64),
        first=_edges(len(shape.pieces) for shape in shapes),
        absent=np.array([column for each in absent for column in each], np.int64),
        absent_first=_edges(map(len, absent)),
        hits=np.zeros(len(shapes), np.int64),
        tens=np.array([10**k for k in range(9)], U8),
        powers=np.array([10.0**k for k in range(23)]),
    )


def shortest(shape: Shape) -> int:
    """Bytes that a reading of this shape has at least."""
    return max(1, sum(len(piece.text) for piece in shape.pieces if not piece.skippable))


def _edges(lengths: Iterable[int]) -> NDArray[np.int64]:
    return np.cumsum([0, *lengths]).astype(np.int64)


class Out(NamedTuple):
    """What a scan fills in: `ok` bool[messages], and a row a reading of the messages that are ok: its message, time,
    values (NaN: missing), and where its vehicle's id and its context lie in the buffer (`context` -1: it has none).

    `note` int64[3]: the first message that was not ok, where its first reading that fits no shape begins, and the
    shape of the first row.
    """

    ok: NDArray[np.bool_]
    message: NDArray[np.int64]
    ts: NDArray[np.int64]
    values: NDArray[np.float32]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    context: NDArray[np.int64]
    context_stop: NDArray[np.int64]
    note: NDArray[np.int64]


def room(messages: int, rows: int, columns: int) -> Out:
    """Arrays for so many messages and rows."""
    message, ts, start, stop, context, context_stop = (np.empty(rows, np.int64) for _ in range(6))
    values = np.empty((rows, columns), np.float32)
    ok, note = np.empty(messages, np.bool_), np.empty(3, np.int64)
    return Out(ok, message, ts, values, start, stop, context, context_stop, note)


@part
def starts_with(buffer: NDArray[np.uint8], at: Whole, book: Book, piece: Whole) -> bool:
    """Whether the bytes of a piece stand in the buffer."""
    for w in range(book.word[piece], book.word[piece + 1]):
        if (load64(buffer, at) ^ book.words[w]) & book.masks[w] != U8(0):
            return False
        at += 8
    return True

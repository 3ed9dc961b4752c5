"""JSON at the speed of its bytes: the shapes that a stream really has are learned, and only their values are parsed.

A message is accepted only where it has a known shape to the byte and plain values (numbers of at most 15 digits
without exponent, text without escapes, ASCII). What is accepted gives the values that msgspec gives, to the bit; the
rest is left to msgspec.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import kernel

END, VEHICLE, TIME, NUMBER, CONTEXT = 0, 1, 2, 3, 4
TEMPLATES = 8
"""Shapes that are known at most; producers of one fleet have few."""

MOST_DIGITS, MOST_ID, MOST_CONTEXTS = 15, 200, 100_000
POWERS = np.array([10.0**k for k in range(MOST_DIGITS + 1)])

_TEXT = rb'"[^"\\\x00-\x1f\x80-\xff]*"'
_NUMBER = rb"-?[0-9.eE+-]+"
_KEY = re.compile(rb"\s*(" + _TEXT + rb")\s*:\s*")
_VALUE = {
    b"vehicle": (re.compile(rb'"([^"\\\x00-\x1f\x80-\xff]+)"'), VEHICLE),
    b"ts": (re.compile(rb"(" + _NUMBER + rb")"), TIME),
    b"context": (re.compile(rb"\{([^{}\\\x00-\x1f\x80-\xff]*)\}"), CONTEXT),
    b"v": (re.compile(rb"1(?![0-9.eE])"), END),
}
_SIGNAL = re.compile(rb"\s*(" + _TEXT + rb")\s*:\s*(" + _NUMBER + rb"|null)\s*")


class Template(NamedTuple):
    """A shape: the text before each value, what the value is, and for numbers the column (-1: a signal not known).

    `text` uint8 holds all pieces of text one after the other, `edge` int64[k + 1] where each begins; the last
    piece is followed by the end of the message.
    """

    text: NDArray[np.uint8]
    edge: NDArray[np.int64]
    kind: NDArray[np.int64]
    column: NDArray[np.int64]


class Scanned(NamedTuple):
    """What `scan` fills in, one row a message: `ok` where it was accepted, the time, the values (NaN: missing), and
    where in the buffer the vehicle's id and the inside of the context begin and end."""

    ok: NDArray[np.bool_]
    ts: NDArray[np.int64]
    values: NDArray[np.float64]
    vehicle: NDArray[np.int64]
    context: NDArray[np.int64]


def learn(message: bytes, columns: Sequence[str]) -> Template | None:
    """The shape of a message that is one reading; None where it has something that is not plain."""
    spots = _spots(message, {name.encode(): place for place, name in enumerate(columns)})
    if spots is None or sorted(kind for _, _, kind, _ in spots if kind in (VEHICLE, TIME)) != [VEHICLE, TIME]:
        return None
    pieces, begin = [], 0
    for start, stop, _, _ in spots:
        pieces.append(message[begin:start])
        begin = stop
    pieces.append(message[begin:])
    edge = np.cumsum([0, *map(len, pieces)])
    kinds = np.array([kind for _, _, kind, _ in spots] + [END], np.int64)
    column = np.array([place for _, _, _, place in spots] + [-1], np.int64)
    return Template(np.frombuffer(b"".join(pieces), np.uint8), edge.astype(np.int64), kinds, column)


Spot = tuple[int, int, int, int]


def _spots(message: bytes, columns: dict[bytes, int]) -> list[Spot] | None:
    """(start, stop, kind, column) of each value of a message, None if it is no plain reading."""
    spots: list[Spot] = []
    seen: set[bytes] = set()
    at = message.find(b"{") + 1
    if not at or message[: at - 1].strip():
        return None
    while key := _KEY.match(message, at):
        name = key[1][1:-1]
        if name in seen:
            return None
        seen.add(name)
        found = _signals(message, key.end(), columns) if name == b"signals" else _one(message, key.end(), name)
        if found is None:
            return None
        spots += found[0]
        at = found[1]
        if message[at : at + 1] != b",":
            break
        at += 1
    return spots if message[at:].strip() == b"}" and b"signals" in seen else None


def _one(message: bytes, at: int, name: bytes) -> tuple[list[Spot], int] | None:
    pattern, kind = _VALUE.get(name, (None, END))
    value = pattern.match(message, at) if pattern else None
    if value is None:
        return None
    spots = [(*value.span(1), kind, -1)] if kind != END else []
    return spots, _skip(message, value.end())


def _signals(message: bytes, at: int, columns: dict[bytes, int]) -> tuple[list[Spot], int] | None:
    if message[at : at + 1] != b"{":
        return None
    spots: list[Spot] = []
    seen: set[bytes] = set()
    at += 1
    while signal := _SIGNAL.match(message, at):
        name = signal[1][1:-1]
        if name in seen:
            return None
        seen.add(name)
        spots.append((*signal.span(2), NUMBER, columns.get(name, -1)))
        at = signal.end()
        if message[at : at + 1] != b",":
            break
        at += 1
    return (spots, _skip(message, at + 1)) if message[at : at + 1] == b"}" and spots else None


def _skip(message: bytes, at: int) -> int:
    while message[at : at + 1].isspace():
        at += 1
    return at


@kernel
def match_text(buffer: NDArray[np.uint8], at: int, stop: int, template: Template, piece: int) -> int:
    """Where a piece of a template's text ends in the buffer, -1 if it is not what stands there."""
    first: int = template.edge[piece]
    length: int = template.edge[piece + 1] - first
    if at + length > stop:
        return -1
    for j in range(length):
        if buffer[at + j] != template.text[first + j]:
            return -1
    return at + length


@kernel
def match_number(
    buffer: NDArray[np.uint8], at: int, stop: int, powers: NDArray[np.float64], row: int, column: int, out: Scanned
) -> int:
    """Parse a plain JSON number or null into `out.values`; where it ends, -1 if it is not plain.

    At most 15 digits are below 2**53 and 10**k is exact up to k = 22, so that one division rounds correctly.
    """
    if stop - at >= 4 and buffer[at] == 110:  # n
        return at + 4 if buffer[at + 1] == 117 and buffer[at + 2] == 108 and buffer[at + 3] == 108 else -1
    negative = at < stop and buffer[at] == 45
    if negative:
        at += 1
    begin = at
    whole = np.int64(0)
    digits = 0
    while at < stop and 48 <= buffer[at] <= 57 and digits <= MOST_DIGITS:
        whole = whole * 10 + np.int64(buffer[at] - 48)
        digits += 1
        at += 1
    if digits == 0 or (digits > 1 and buffer[begin] == 48):
        return -1
    places = 0
    if at < stop and buffer[at] == 46:
        at += 1
        while at < stop and 48 <= buffer[at] <= 57 and digits <= MOST_DIGITS:
            whole = whole * 10 + np.int64(buffer[at] - 48)
            digits += 1
            places += 1
            at += 1
        if places == 0:
            return -1
    if digits > MOST_DIGITS or (negative and whole == 0):
        return -1
    value = np.float64(whole) / powers[places]
    if column >= 0:
        out.values[row, column] = -value if negative else value
    return at


@kernel
def match_time(buffer: NDArray[np.uint8], at: int, stop: int, row: int, out: Scanned) -> int:
    """Parse an integer of at most 18 digits into `out.ts`; where it ends, -1 if it is not plain."""
    negative = at < stop and buffer[at] == 45
    if negative:
        at += 1
    begin = at
    value = np.int64(0)
    while at < stop and 48 <= buffer[at] <= 57 and at - begin <= 18:
        value = value * 10 + np.int64(buffer[at] - 48)
        at += 1
    digits = at - begin
    if digits == 0 or digits > 18 or (digits > 1 and buffer[begin] == 48):
        return -1
    out.ts[row] = -value if negative else value
    return at


@kernel
def match_plain(buffer: NDArray[np.uint8], at: int, stop: int, closing: int) -> int:
    """Where plain text ends before the byte `closing`, -1 if anything in it is not plain."""
    while at < stop and buffer[at] != closing:
        byte = buffer[at]
        if byte < 32 or byte >= 128 or byte == 92 or byte == 123:
            return -1
        at += 1
    return at if at < stop else -1


@kernel
def match_message(
    buffer: NDArray[np.uint8], at: int, stop: int, template: Template, powers: NDArray[np.float64], row: int,
    out: Scanned,
) -> bool:  # fmt: skip
    """Whether a message has a template's shape; its values go to `out`."""
    for piece in range(template.kind.shape[0]):
        at = match_text(buffer, at, stop, template, piece)
        if at < 0:
            return False
        kind = template.kind[piece]
        begin = at
        if kind == NUMBER:
            at = match_number(buffer, at, stop, powers, row, template.column[piece], out)
        elif kind == TIME:
            at = match_time(buffer, at, stop, row, out)
        elif kind == VEHICLE:
            at = match_plain(buffer, at, stop, 34)
            if at - begin < 1 or at - begin > MOST_ID:
                return False
            out.vehicle[row, 0] = begin
            out.vehicle[row, 1] = at
        elif kind == CONTEXT:
            at = match_plain(buffer, at, stop, 125)
            out.context[row, 0] = begin
            out.context[row, 1] = at
        if at < 0:
            return False
    return at == stop


@kernel
def scan(
    buffer: NDArray[np.uint8], edge: NDArray[np.int64], template: Template, powers: NDArray[np.float64], out: Scanned
) -> int:
    """Try a template on all messages that are not accepted yet; message i is buffer[edge[i]:edge[i + 1]].

    Answers how many are accepted now. A row that is tried in vain holds rubbish but in `ok`.
    """
    accepted = 0
    for i in range(edge.shape[0] - 1):
        if not out.ok[i]:
            for j in range(out.values.shape[1]):
                out.values[i, j] = np.nan
            out.context[i, 0] = -1
            out.ok[i] = match_message(buffer, edge[i], edge[i + 1], template, powers, i, out)
        if out.ok[i]:
            accepted += 1
    return accepted


class Plain(NamedTuple):
    """What was accepted of n messages: `ok` bool[n], and of the m accepted ones, in order, vehicles, `ts` int64[m],
    `values` float64[m, columns], and contexts as `Scanner` was told to read them (None where there is none)."""

    ok: NDArray[np.bool_]
    vehicles: list[str]
    ts: NDArray[np.int64]
    values: NDArray[np.float64]
    contexts: Sequence[Any]


class Scanner:
    """Learns the shapes of one fleet's messages as they come; `read` makes a value of a context's text, or None."""

    def __init__(self, columns: Sequence[str], read: Callable[[bytes], Any]) -> None:
        self._columns = columns
        self._read = read
        self._templates: list[Template] = []
        self._contexts: dict[bytes, Any] = {}

    def scan(self, messages: Sequence[bytes]) -> Plain:
        """Accept what is plain among `messages`."""
        joined = b"".join(messages)
        edge = np.zeros(len(messages) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, messages), np.int64, len(messages)), out=edge[1:])
        out = blank(len(messages), len(self._columns))
        buffer = np.frombuffer(joined, np.uint8)
        accepted = 0
        for place, template in enumerate(self._templates):
            accepted = scan(buffer, edge, template, POWERS, out)
            if accepted == len(messages):
                self._templates.insert(0, self._templates.pop(place))
                break
        if accepted < len(messages) and len(self._templates) < TEMPLATES:
            learned = learn(messages[int(np.argmin(out.ok))], self._columns)
            if learned is not None:
                self._templates.append(learned)
                scan(buffer, edge, learned, POWERS, out)
        return self._plain(joined, out)

    def _plain(self, joined: bytes, out: Scanned) -> Plain:
        contexts: list[Any] = []
        if self._templates and (out.context[:, 0] >= 0).any():
            contexts = self._read_contexts(joined, out)
        rows = np.flatnonzero(out.ok)
        text = joined.decode("latin-1")
        vehicles = [text[start:stop] for start, stop in out.vehicle[rows].tolist()]
        kept = [contexts[row] for row in rows.tolist()] if contexts else [None] * len(rows)
        return Plain(out.ok, vehicles, out.ts[rows], out.values[rows], kept)

    def _read_contexts(self, joined: bytes, out: Scanned) -> list[Any]:
        """One value a message; where the text is no context, the message is not plain after all."""
        known = self._contexts
        if len(known) > MOST_CONTEXTS:
            known.clear()
        contexts = []
        for row, (start, stop) in enumerate(out.context.tolist()):
            value = None
            if start >= 0 and out.ok[row]:
                text = joined[start:stop]
                value = known[text] if text in known else known.setdefault(text, self._read(text))
                out.ok[row] = value is not None
            contexts.append(value)
        return contexts


def blank(count: int, columns: int) -> Scanned:
    """Room for `count` messages."""
    return Scanned(
        ok=np.zeros(count, np.bool_),
        ts=np.zeros(count, np.int64),
        values=np.empty((count, columns), np.float64),
        vehicle=np.zeros((count, 2), np.int64),
        context=np.zeros((count, 2), np.int64),
    )

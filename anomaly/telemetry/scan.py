"""Messages at the speed of their bytes: the shapes that a stream really has are learned, and only values are parsed.

A message is accepted only where it has known shapes to the byte and plain values. What is accepted gives the values
that msgspec gives, to the bit; the rest is left to msgspec.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.errors import DataError
from anomaly.telemetry.messages import Messages
from anomaly.telemetry.shapes import (
    CONTEXT_BYTES,
    MOST_CONTEXTS,
    MOST_SHAPES,
    PADDING,
    Book,
    Out,
    Seen,
    Shape,
    Whole,
    book,
    nothing_seen,
    room,
    shortest,
)
from anomaly.telemetry.text import Coded, Text

_LONGEST_LEARNED = 65_536
_KEPT_BYTES = 1 << 25
_LONGEST_PAUSE = 64

Fields = tuple[str | None, ...]


class Language(NamedTuple):
    """How messages are written: `learn(bytes, at, columns)` finds the shape of the reading at `at`, `scan` is the
    kernel, and `read` makes the kept fields of a context's bytes, None of what is no context."""

    learn: Callable[[bytes, int, Sequence[str]], Shape | None]
    scan: Callable[[NDArray[np.uint8], NDArray[np.int64], Book, Seen, Out], Whole]
    read: Callable[[bytes], Fields | None]


class Plain(NamedTuple):
    """What was accepted of n messages: `ok` bool[n], and the m readings of those, in order: their `message` int64[m],
    vehicles, `ts` int64[m], `values` float32[m, columns], the columns of their context, and the names that the
    fleet does not know in the first of them."""

    ok: NDArray[np.bool_]
    message: NDArray[np.int64]
    vehicles: Text
    ts: NDArray[np.int64]
    values: NDArray[np.float32]
    context: list[Coded]
    unknown: Counter[str]


class Words:
    """Strings of one context field: each gets a number, those of one batch index one list."""

    def __init__(self) -> None:
        self.words: list[str | None] = [None]
        self._number: dict[str | None, int] = {None: 0}

    def number(self, word: str | None) -> int:
        """The place of `word` in `words`."""
        found = self._number.setdefault(word, len(self.words))
        if found == len(self.words):
            self.words.append(word)
        return found

    def __len__(self) -> int:
        return len(self.words)


class Contexts:
    """The contexts that were seen: their bytes for the kernel, and for each field the words they stand for."""

    def __init__(self, fields: int, read: Callable[[bytes], Fields | None]) -> None:
        self.seen = nothing_seen()
        self._read = read
        self._read_up_to = 1
        self._words = [Words() for _ in range(fields)]
        self._code = np.zeros((fields, MOST_CONTEXTS), np.int32)

    @property
    def full(self) -> bool:
        """Whether it is time to forget all of them."""
        count = int(self.seen.meta[0])
        return count > MOST_CONTEXTS // 2 or int(self.seen.edge[count]) > CONTEXT_BYTES // 2

    def read_new(self) -> bool:
        """Read contexts that came since the last call; whether all of them are good."""
        first, count = self._read_up_to, int(self.seen.meta[0])
        for number in range(first, count):
            begin, end = self.seen.edge[number : number + 2].tolist()
            found = self._read(self.seen.arena[begin:end].tobytes())
            self.seen.good[number] = found is not None
            if found is not None:
                self._code[:, number] = [words.number(word) for words, word in zip(self._words, found, strict=True)]
        self._read_up_to = count
        return bool(self.seen.good[first:count].all())

    def columns(self, numbers: NDArray[np.int64]) -> list[Coded]:
        """The fields of contexts by number, one column each."""
        return [Coded(code[numbers], words.words) for code, words in zip(self._code, self._words, strict=True)]


class Scanner:
    """Learns the shapes of one fleet's messages as they come; contexts have `fields` kept fields."""

    def __init__(self, columns: Sequence[str], fields: int, language: Language) -> None:
        self._columns = columns
        self._fields = fields
        self._language = language
        self._contexts = Contexts(fields, language.read)
        self._shapes: list[Shape] = []
        self._book = book([], len(columns))
        self._shortest = 1
        self._out = room(0, 0, len(columns))
        self._pause = self._in_vain = 0

    def scan(self, messages: Sequence[bytes]) -> Plain:
        """Accept what is plain among `messages`. Raises DataError where they are longer than the bytes there are."""
        if self._contexts.full:
            self._contexts = Contexts(self._fields, self._language.read)
        buffer, edge = Messages.of(messages).padded(PADDING)
        if len(buffer) < edge[-1] + PADDING or (edge[1:] < edge[:-1]).any():
            raise DataError("a block of messages is damaged: it is shorter than the lengths that are kept with it")
        out, rows = self._scan(buffer, edge)
        if not out.ok.all() and self._learn(buffer, edge, out):
            out, rows = self._scan(buffer, edge)
            self._note_success()
        return self._plain(buffer, out, rows)

    def _scan(self, buffer: NDArray[np.uint8], edge: NDArray[np.int64]) -> tuple[Out, int]:
        """All messages by the shapes that are known now."""
        out = self._room(len(edge) - 1, int(edge[-1]))
        seen = self._contexts.seen
        rows = self._language.scan(buffer, edge, self._book, seen, out)
        if not self._contexts.read_new():
            rows = self._language.scan(buffer, edge, self._book, seen, out)
        return out, int(rows)

    def _room(self, messages: int, size: int) -> Out:
        rows = size // self._shortest + 1
        if rows > len(self._out.ts):
            made = room(0, rows, len(self._columns))
            if made.values.nbytes > _KEPT_BYTES:
                return made._replace(ok=np.empty(messages, np.bool_))
            self._out = made
        return self._out._replace(ok=np.empty(messages, np.bool_))

    def _learn(self, buffer: NDArray[np.uint8], edge: NDArray[np.int64], out: Out) -> bool:
        """Learn the shape of the first reading that fits none; after trials in vain, only now and then."""
        if self._pause > 0:
            self._pause -= 1
            return False
        self._in_vain = min(2 * self._in_vain + 1, _LONGEST_PAUSE)
        self._pause = self._in_vain
        stop, at = int(edge[out.note[0] + 1]), int(out.note[1])
        shape = self._language.learn(buffer[at : min(stop, at + _LONGEST_LEARNED)].tobytes(), 0, self._columns)
        if shape is None or shape in self._shapes:
            return False
        hits = self._book.hits
        if len(self._shapes) == MOST_SHAPES:
            rarest = int(np.argmin(hits))
            del self._shapes[rarest]
            hits = np.delete(hits, rarest) // 2
        self._shapes.append(shape)
        self._book = book(self._shapes, len(self._columns))
        self._book.hits[:-1] = hits
        self._shortest = min(map(shortest, self._shapes))
        return True

    def _note_success(self) -> None:
        """A shape that was learned and used makes the next one likely."""
        if self._book.hits[-1] > 0:
            self._pause = self._in_vain = 0

    def _plain(self, buffer: NDArray[np.uint8], out: Out, rows: int) -> Plain:
        first = Counter(self._shapes[int(out.note[2])].unknown) if rows else Counter[str]()
        return Plain(
            ok=out.ok,
            message=out.message[:rows].copy(),
            vehicles=Text(buffer, out.start[:rows].copy(), out.stop[:rows].copy()),
            ts=out.ts[:rows].copy(),
            values=out.values[:rows].copy(),
            context=self._contexts.columns(out.context[:rows]),
            unknown=first,
        )

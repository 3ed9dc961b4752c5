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
from anomaly.telemetry.index import Index
from anomaly.telemetry.messages import Messages
from anomaly.telemetry.shapes import (
    MOST_SHAPES,
    PADDING,
    Book,
    Out,
    Shape,
    Whole,
    book,
    room,
    shortest,
)
from anomaly.telemetry.text import Coded, Text

_LONGEST_LEARNED = 65_536
_KEPT_BYTES = 1 << 25
MOST_CONTEXTS = 16_384
_LONGEST_PAUSE = 64

Fields = tuple[str | None, ...]


class Language(NamedTuple):
    """How messages are written: `learn(bytes, at, columns)` finds the shape of the reading at `at`, `scan` is the
    kernel, and `read` makes the kept fields of a context's bytes, None of what is no context."""

    learn: Callable[[bytes, int, Sequence[str]], Shape | None]
    scan: Callable[[NDArray[np.uint8], NDArray[np.int64], Book, Out], Whole]
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
    """The contexts that were seen, by their bytes, and for each field the words they stand for."""

    def __init__(self, fields: int, read: Callable[[bytes], Fields | None]) -> None:
        self._read = read
        self._index = Index(MOST_CONTEXTS)
        self._words = [Words() for _ in range(fields)]
        self._code = np.zeros((fields, MOST_CONTEXTS + 1), np.int32)
        self._good = np.ones(MOST_CONTEXTS + 1, np.bool_)
        self._all_good = True

    @property
    def full(self) -> bool:
        """Whether it is time to forget all of them."""
        return len(self._index) > MOST_CONTEXTS // 2

    def number(self, text: Text) -> NDArray[np.int64]:
        """Numbers of n contexts, int64[n]; -1 for what is no context, and for all if they are too many."""
        try:
            numbers, new = self._index.number(text)
        except OverflowError:
            return np.full(len(text), -1, np.int64)
        if len(new):
            self._learn(new)
        return numbers if self._all_good else np.where(self._good[numbers], numbers, -1)

    def _learn(self, new: NDArray[np.int64]) -> None:
        """Read the contexts that have these numbers since now."""
        for number, context in zip(new.tolist(), self._index.names(new).tobytes(), strict=True):
            found = self._read(context)
            self._good[number] = found is not None
            self._all_good = self._all_good and found is not None
            if found is not None:
                self._code[:, number] = [words.number(word) for words, word in zip(self._words, found, strict=True)]

    def columns(self, numbers: NDArray[np.int64]) -> list[Coded]:
        """The fields of contexts by number, one column each; MOST_CONTEXTS is the number of none."""
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
        buffer, edge = Messages.of(messages, PADDING).padded(PADDING)
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
        return out, int(self._language.scan(buffer, edge, self._book, out))

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
        contexts = self._contexts_of(buffer, out, rows)
        taken: slice | NDArray[np.int64] = slice(rows)
        if not out.ok.all():
            taken = np.flatnonzero(out.ok[out.message[:rows]])
        message = out.message[taken].copy()
        unknown = self._shapes[int(out.note[2])].unknown if len(message) else ()
        return Plain(
            ok=out.ok,
            message=message,
            vehicles=Text(buffer, out.start[taken].copy(), out.stop[taken].copy()),
            ts=out.ts[taken].copy(),
            values=out.values[taken].copy(),
            context=self._contexts.columns(contexts[taken]),
            unknown=Counter(unknown) if unknown else Counter(),
        )

    def _contexts_of(self, buffer: NDArray[np.uint8], out: Out, rows: int) -> NDArray[np.int64]:
        """The number of each row's context; a message that has one which is none is not ok."""
        start, stop = out.context[:rows], out.context_stop[:rows]
        if rows and start.min() >= 0:
            numbers = self._contexts.number(Text(buffer, start, stop))
        else:
            told = np.flatnonzero(start >= 0)
            numbers = np.full(rows, MOST_CONTEXTS, np.int64)
            numbers[told] = self._contexts.number(Text(buffer, start[told], stop[told]))
        if rows and numbers.min() < 0:
            out.ok[out.message[:rows][numbers < 0]] = False
        return numbers

"""Columns of strings without a Python object a row: spans of a buffer, or codes into a few words."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import kernel

# A checksum starts at ~0 and ends inverted: of one byte it is the table's entry for ~byte, with 24 bits shifted in.
_CRC_TABLE = np.array([zlib.crc32(bytes([255 ^ byte])) ^ 0xFF000000 for byte in range(256)], np.uint32)


class Text(Sequence[str]):
    """n strings, each the UTF-8 bytes `buffer[start[i]:stop[i]]`; what is said twice may lie in one place."""

    __slots__ = ("_edge", "buffer", "start", "stop")

    def __init__(self, buffer: NDArray[np.uint8], start: NDArray[np.int64], stop: NDArray[np.int64]) -> None:
        self.buffer = buffer.view()
        self.buffer.flags.writeable = False  # a kernel is compiled once for arrays that may be written, once for others
        self.start = start
        self.stop = stop
        self._edge: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, values: Sequence[str]) -> Text:
        """The strings of a list; a Text is answered as it is."""
        if isinstance(values, Text):
            return values
        encoded = [value.encode() for value in values]
        edge = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=edge[1:])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), edge[:-1], edge[1:])

    def __len__(self) -> int:
        return len(self.start)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Text: ...
    def __getitem__(self, place: int | slice) -> str | Text:
        if isinstance(place, slice):
            return Text(self.buffer, self.start[place], self.stop[place])
        return self.buffer[self.start[place] : self.stop[place]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        return iter(self.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self.tolist() == list(other)

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def __repr__(self) -> str:
        return f"Text.of({self.tolist()})"

    def tolist(self) -> list[str]:
        """As Python strings."""
        return [text.decode() for text in self.tobytes()]

    def tobytes(self) -> list[bytes]:
        """The bytes of each string."""
        whole = self.buffer.tobytes()
        return [whole[a:b] for a, b in zip(self.start.tolist(), self.stop.tolist(), strict=True)]

    def take(self, rows: NDArray[np.integer[Any]]) -> Text:
        """The strings at `rows`, in that order."""
        return Text(self.buffer, self.start[rows], self.stop[rows])

    @classmethod
    def concatenated(cls, parts: Sequence[Text]) -> Text:
        """The strings of all parts, one after the other."""
        first = np.cumsum([0, *(len(part.buffer) for part in parts)]).tolist()
        return cls(
            np.concatenate([part.buffer for part in parts]),
            np.concatenate([part.start + at for part, at in zip(parts, first, strict=False)]),
            np.concatenate([part.stop + at for part, at in zip(parts, first, strict=False)]),
        )

    def spelled(self) -> Text:
        """The same, in a buffer that holds nothing else."""
        data, edge = self.packed()
        text = Text(data, edge[:-1], edge[1:])
        text._edge = edge
        return text

    def packed(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """All bytes one after the other, and where each string begins, int64[n + 1]."""
        if self._edge is not None:
            return self.buffer, self._edge
        edge = np.zeros(len(self) + 1, np.int64)
        np.cumsum(self.stop - self.start, out=edge[1:])
        data = np.empty(int(edge[-1]), np.uint8)
        pack(self.buffer, self.start, edge, data)
        return data, edge

    def arrow(self) -> Any:
        """As a pyarrow array of strings, at most 2 GiB of them."""
        import pyarrow as pa

        data, edge = self.packed()
        buffers = [None, pa.py_buffer(edge.astype(np.int32)), pa.py_buffer(data)]
        return pa.Array.from_buffers(pa.string(), len(self), buffers)

    def crc32(self) -> NDArray[np.uint64]:
        """The CRC-32 of each string's bytes, uint64[n], as zlib computes it."""
        sums = np.empty(len(self), np.uint64)
        checksum(self.buffer, self.start, self.stop, _CRC_TABLE, sums)
        return sums


class Coded(Sequence[str | None]):
    """n strings out of a few: `words[codes[i]]`, `codes` int32[n]; a word may be None, and may be there unused."""

    __slots__ = ("codes", "words")

    def __init__(self, codes: NDArray[np.int32], words: Sequence[str | None]) -> None:
        self.codes = codes
        self.words = words

    @classmethod
    def of(cls, values: Sequence[str | None]) -> Coded:
        """The strings of a list; a Coded is answered as it is."""
        if isinstance(values, Coded):
            return values
        number: dict[str | None, int] = {}
        codes = [number.setdefault(value, len(number)) for value in values]
        return cls(np.array(codes, np.int32), list(number))

    @classmethod
    def nothing(cls, count: int) -> Coded:
        """`count` times None."""
        return cls(np.zeros(count, np.int32), [None])

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, place: int) -> str | None: ...
    @overload
    def __getitem__(self, place: slice) -> Coded: ...
    def __getitem__(self, place: int | slice) -> str | Coded | None:
        if isinstance(place, slice):
            return Coded(self.codes[place], self.words)
        return self.words[int(self.codes[place])]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def __repr__(self) -> str:
        return f"Coded.of({list(self)})"

    def take(self, rows: NDArray[np.integer[Any]]) -> Coded:
        """The strings at `rows`, in that order."""
        return Coded(self.codes[rows], self.words)

    @classmethod
    def concatenated(cls, parts: Sequence[Coded]) -> Coded:
        """The strings of all parts, one after the other."""
        words: dict[str | None, int] = {}
        codes = []
        for part in parts:
            number = np.zeros(max(len(part.words), 1), np.int32)
            for code in part.used().tolist():
                number[code] = words.setdefault(part.words[code], len(words))
            codes.append(number[part.codes])
        return cls(np.concatenate(codes), list(words))

    def used(self) -> NDArray[np.int64]:
        """The codes that occur, ascending."""
        return np.flatnonzero(np.bincount(self.codes, minlength=1)) if len(self.codes) else np.zeros(0, np.int64)

    def arrow(self) -> Any:
        """As a pyarrow array of strings in dictionary form, every word once, null where there is none."""
        import pyarrow as pa

        used = self.used()
        distinct = {word: None for word in (self.words[code] for code in used.tolist()) if word is not None}
        place = {word: number for number, word in enumerate(distinct)}
        number = np.full(max(len(self.words), 1), -1, np.int32)
        number[used] = [-1 if (word := self.words[code]) is None else place[word] for code in used.tolist()]
        codes = number[self.codes]
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), pa.array(list(distinct), pa.string()))


@kernel
def pack(buffer: NDArray[np.uint8], start: NDArray[np.int64], edge: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
    """Copy string i, which begins at `start[i]`, to `out[edge[i]:edge[i + 1]]`."""
    for i in range(start.shape[0]):
        for j in range(edge[i + 1] - edge[i]):
            out[edge[i] + j] = buffer[start[i] + j]


@kernel
def checksum(
    buffer: NDArray[np.uint8],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    table: NDArray[np.uint32],
    out: NDArray[np.uint64],
) -> None:
    """CRC-32 (IEEE 802.3, reflected), a byte at a time."""
    for i in range(start.shape[0]):
        crc = np.uint32(0xFFFFFFFF)
        for j in range(start[i], stop[i]):
            crc = table[(crc ^ np.uint32(buffer[j])) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
        out[i] = np.uint64(crc ^ np.uint32(0xFFFFFFFF))

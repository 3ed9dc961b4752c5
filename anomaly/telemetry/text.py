"""Columns of strings without a Python object a row: spans of a buffer, or codes into a few words."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import kernel, load64, store64

# A checksum starts at ~0 and ends inverted: of one byte it is the table's entry for ~byte, with 24 bits shifted in.
_CRC_BYTE = np.array([zlib.crc32(bytes([255 ^ byte])) ^ 0xFF000000 for byte in range(256)], np.uint32)


def _crc_tables() -> NDArray[np.uint32]:
    """Row k: what a byte does to a checksum when k bytes come after it."""
    rows = [_CRC_BYTE]
    for _ in range(7):
        rows.append(_CRC_BYTE[rows[-1] & 0xFF] ^ (rows[-1] >> np.uint32(8)))
    return np.array(rows)


_CRC_TABLES = _crc_tables()
_FEW_WORDS = 64
"""Words up to which a dictionary holds all of them, so that it is made once, and not for each batch those in use."""
_WORD = 8


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
        edge = np.empty(len(self) + 1, np.int64)
        size = measure(self.start, self.stop, edge)
        data = np.empty(size + _WORD, np.uint8)
        pack(self.buffer, self.start, edge, data)
        data = data[:size]
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
        checksum(self.buffer, self.start, self.stop, _CRC_TABLES, sums)
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
        """As a pyarrow array of strings in dictionary form, no word twice, null where there is none."""
        import pyarrow as pa

        if len(self.words) <= _FEW_WORDS:
            number, distinct = _dictionary(tuple(self.words))
            codes = number[self.codes]
        else:
            used = self.used()
            number, distinct = _dictionary(tuple(self.words[code] for code in used.tolist()))
            codes = number[np.searchsorted(used, self.codes)]
        if len(codes) and codes.min() < 0:
            return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), distinct)
        places = pa.Array.from_buffers(pa.int32(), len(codes), [None, pa.py_buffer(codes)])
        return pa.DictionaryArray.from_arrays(places, distinct, safe=False)  # each is a place in `distinct`


@lru_cache(maxsize=256)
def _dictionary(words: tuple[str | None, ...]) -> tuple[NDArray[np.int32], Any]:
    """The place of each word among those that are there once, -1 of None, and those as a pyarrow array."""
    import pyarrow as pa

    place = {word: number for number, word in enumerate(dict.fromkeys(word for word in words if word is not None))}
    number = [-1 if word is None else place[word] for word in words] or [-1]
    return np.array(number, np.int32), pa.array(list(place), pa.string())


def uniform(hashes: NDArray[np.uint64], when: NDArray[np.int64], purpose: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each pair of a string, by its CRC-32, and a time, another for each purpose: float64[n].

    Both go through the finaliser of SplitMix64 (Steele, Lea and Flood 2014), of which the upper 53 bits are used.
    """
    numbers = np.empty(len(hashes), np.float64)
    spread(hashes, when, np.uint64(purpose << 32), numbers)
    return numbers


@kernel
def measure(start: NDArray[np.int64], stop: NDArray[np.int64], edge: NDArray[np.int64]) -> int:
    """Where each string begins when they lie one after the other, int64[n + 1]; answers the bytes of all."""
    size = np.int64(0)
    for i in range(start.shape[0]):
        edge[i] = size
        size += stop[i] - start[i]
    edge[start.shape[0]] = size
    return size  # type: ignore[return-value]  # an int to whoever calls it


@kernel
def pack(buffer: NDArray[np.uint8], start: NDArray[np.int64], edge: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
    """Copy string i, which begins at `start[i]`, to `out[edge[i]:edge[i + 1]]`, in order; a word behind the last one
    may be written to."""
    size = buffer.shape[0]
    for i in range(start.shape[0]):
        at, to, end = start[i], edge[i], edge[i + 1]
        while to < end and at + 8 <= size:
            store64(out, to, load64(buffer, at))
            at += 8
            to += 8
        while to < end:
            out[to] = buffer[at]
            at += 1
            to += 1


@kernel
def checksum(
    buffer: NDArray[np.uint8],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    table: NDArray[np.uint32],
    out: NDArray[np.uint64],
) -> None:
    """CRC-32 (IEEE 802.3, reflected), 8 bytes at a time (Intel's slicing-by-8), then one by one."""
    low = np.uint64(0xFF)
    for i in range(start.shape[0]):
        crc = np.uint32(0xFFFFFFFF)
        at, end = start[i], stop[i]
        while end - at >= 8:
            word = load64(buffer, at) ^ np.uint64(crc)
            crc = table[7, word & low] ^ table[6, (word >> np.uint64(8)) & low]
            crc ^= table[5, (word >> np.uint64(16)) & low] ^ table[4, (word >> np.uint64(24)) & low]
            crc ^= table[3, (word >> np.uint64(32)) & low] ^ table[2, (word >> np.uint64(40)) & low]
            crc ^= table[1, (word >> np.uint64(48)) & low] ^ table[0, word >> np.uint64(56)]
            at += 8
        for j in range(at, end):
            crc = table[0, (crc ^ np.uint32(buffer[j])) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
        out[i] = np.uint64(crc ^ np.uint32(0xFFFFFFFF))


@kernel
def split(z: np.uint64) -> np.uint64:
    """The finaliser of SplitMix64."""
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def spread(hashes: NDArray[np.uint64], when: NDArray[np.int64], purpose: np.uint64, out: NDArray[np.float64]) -> None:
    """See `uniform`."""
    for i in range(hashes.shape[0]):
        mixed = split(split(hashes[i] + purpose) ^ np.uint64(when[i]))
        out[i] = np.float64(mixed >> np.uint64(11)) * 2.0**-53

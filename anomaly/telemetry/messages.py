"""Messages as they lie in a block: one buffer of bytes, and where each message begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray


class Messages(Sequence[bytes]):
    """n messages, number i the bytes `data[edge[i]:edge[i + 1]]`, `edge` int64[n + 1]."""

    __slots__ = ("data", "edge")

    def __init__(self, data: bytes, edge: NDArray[np.int64]) -> None:
        self.data = data
        self.edge = edge

    @classmethod
    def of(cls, values: Sequence[bytes], padding: int = 0) -> Messages:
        """The messages of a list, with `padding` zeros behind them; Messages are answered as they are."""
        if isinstance(values, Messages):
            return values
        data = b"".join([*values, bytes(padding)])
        return cls(data, _edges(np.fromiter(map(len, values), np.int64, len(values))))

    @classmethod
    def stored(cls, lengths: bytes, data: bytes) -> Messages:
        """The messages of `data` whose lengths are given as little-endian uint32."""
        return cls(data, _edges(np.frombuffer(lengths, "<u4")))

    @classmethod
    def concatenated(cls, parts: Sequence[Messages]) -> Messages:
        """The messages of all parts, one after the other."""
        if len(parts) == 1:
            return parts[0]
        lengths = np.concatenate([np.diff(part.edge) for part in parts])
        return cls(b"".join(part.data[part.edge[0] : part.edge[-1]] for part in parts), _edges(lengths))

    def __len__(self) -> int:
        return len(self.edge) - 1

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> Messages: ...
    def __getitem__(self, place: int | slice) -> bytes | Messages:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                raise ValueError("messages are taken one after the other")
            return Messages(self.data, self.edge[start : max(start, stop) + 1])
        number = range(len(self))[place]
        return self.data[self.edge[number] : self.edge[number + 1]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def __repr__(self) -> str:
        return f"Messages.of({list(self)})"

    def padded(self, padding: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The bytes of all messages and `padding` zeros behind them; where each begins, from 0, int64[n + 1]."""
        first, last = int(self.edge[0]), int(self.edge[-1])
        if first == 0 and len(self.data) == last + padding and not any(self.data[last:]):
            return np.frombuffer(self.data, np.uint8), self.edge
        data = b"".join([memoryview(self.data)[first:last], bytes(padding)])
        return np.frombuffer(data, np.uint8), self.edge - first


def _edges(lengths: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    edge = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=edge[1:])
    return edge

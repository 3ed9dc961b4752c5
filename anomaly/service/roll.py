"""Which pages of the state a checkpoint writes again, so that deltas neither pile up nor make a long pause."""

from __future__ import annotations

from anomaly.engine.engine import Engine
from anomaly.service.stored import Sizes

LEAST_BYTES, MOST_BYTES = 4 << 20, 32 << 20
"""So many bytes of deltas are always let be; bytes of pages that are written at once."""


class Roll:
    """Goes over all pages, some at each checkpoint, as soon as there are more bytes of deltas than of pages.

    A page holds everything up to its checkpoint. Once all were written, the deltas from before the first of them are
    superseded. After a restart a new round begins; pages of a round that was not finished do no harm.
    """

    def __init__(self, sizes: Sizes, last_delta: int) -> None:
        self._pages, self._deltas = sizes.pages, sizes.deltas
        self._last_delta = last_delta
        self._last_bytes = 0
        self._next: int | None = None
        self._written = self._until = 0
        self.superseded = 0

    @property
    def size(self) -> int:
        """Bytes of state in the store that are needed."""
        return self._pages + self._deltas

    def pages(self, engine: Engine) -> dict[int, bytes]:
        """The pages to write at this checkpoint, by number: about as many bytes as the last one had of deltas."""
        if self._next is None and self._deltas > max(self._pages, LEAST_BYTES):
            self._next, self._written, self._until = -1, 0, self._last_delta
        pages: dict[int, bytes] = {}
        size = 0
        while self._next is not None and size < min(max(self._last_bytes, LEAST_BYTES), MOST_BYTES):
            pages[self._next] = engine.page(self._next)
            size += len(pages[self._next])
            self._next = self._next + 1 if self._next + 1 < engine.pages else None
        self._written += size
        return pages

    def written(self, last_delta: int, deltas: int, pages: dict[int, bytes]) -> None:
        """A checkpoint was written with so many bytes of deltas, `last_delta` the number of the last of them."""
        self._deltas += deltas
        self._last_bytes = deltas
        self._last_delta = last_delta
        if pages and self._next is None:
            self.superseded, self._pages, self._deltas = self._until, self._written, deltas

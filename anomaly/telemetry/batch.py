"""A Batch: readings as columns, in the order of their arrival."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anomaly.telemetry.text import Coded, Text


@dataclass(frozen=True, slots=True)
class Batch:
    """n readings as columns, in arrival order; every source of readings ends in this one shape.

    `vehicles` has n ids, `ts` int64[n] in the fleet's time unit, `values` float32[n, len(fleet.columns)] with
    NaN where a signal is missing, `context` n strings (or None) for each of `fleet.context_fields`, and `offsets`
    int64[n] the offset of the message that brought each reading (in a file: its row).
    """

    vehicles: Text
    ts: NDArray[np.int64]
    values: NDArray[np.float32]
    context: Mapping[str, Coded]
    offsets: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        vehicles: Sequence[str],
        ts: NDArray[np.int64],
        values: NDArray[np.float32],
        context: Mapping[str, Sequence[str | None]],
        offsets: NDArray[np.int64],
    ) -> Batch:
        """A batch whose strings come as lists."""
        columns = {field: Coded.of(column) for field, column in context.items()}
        return cls(Text.of(vehicles), ts, values, columns, offsets)

    def __len__(self) -> int:
        return len(self.ts)

    def rows(self, start: int, stop: int) -> Batch:
        """The readings `start` up to `stop` as a batch of their own."""
        part = slice(start, stop)
        context = {field: column[part] for field, column in self.context.items()}
        return Batch(self.vehicles[part], self.ts[part], self.values[part], context, self.offsets[part])

    @classmethod
    def concatenated(cls, parts: Sequence[Batch]) -> Batch:
        """The readings of all parts, one after the other."""
        fields = parts[0].context
        return cls(
            Text.concatenated([part.vehicles for part in parts]),
            np.concatenate([part.ts for part in parts]),
            np.concatenate([part.values for part in parts]),
            {field: Coded.concatenated([part.context[field] for part in parts]) for field in fields},
            np.concatenate([part.offsets for part in parts]),
        )

    def spelled(self) -> Batch:
        """The same, its strings in a buffer that holds nothing else, so that the messages' bytes can go."""
        return replace(self, vehicles=self.vehicles.spelled())

    def take(self, rows: NDArray[np.int64]) -> Batch:
        """The readings at `rows`, in that order, as a batch of their own."""
        context = {field: column.take(rows) for field, column in self.context.items()}
        return Batch(self.vehicles.take(rows), self.ts[rows], self.values[rows], context, self.offsets[rows])

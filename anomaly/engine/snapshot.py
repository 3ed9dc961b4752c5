"""What a part of a batch may have to be taken back to: the vehicles in it as they were before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import kernel
from anomaly.engine.layout import FLAGS, HEAD, PARTIAL, RUN, Cohorts, State


@kernel
def may_stir(
    slots: NDArray[np.int64], rows: tuple[int, int], lasting: int, state: State, seen: NDArray[np.uint16]
) -> bool:
    """Whether a decision among the rows [first, end) can change what features a later one of them has.

    A vehicle has to be there twice, and then either so often that `lasting` readings in alarm are possible, which make
    a lasting shift (0: none do), or to be learning the baseline of some signals again, or to have an event that waits.
    `seen` [slots] is 0 before and after.
    """
    first, end = rows
    found = False
    for i in range(first, end):
        slot = slots[i]
        times = min(int(seen[slot]) + 1, 65_535)
        seen[slot] = np.uint16(times)
        if times > 1:  # the record of a vehicle that is there once is left where it lies: reading it is what costs
            learns = state.u1[slot, FLAGS] & PARTIAL > 0 or state.i4[slot, HEAD] >= 0
            found = found or learns or (lasting > 0 and times + int(state.u1[slot, RUN]) > lasting)
    for i in range(first, end):
        seen[slots[i]] = 0
    return found


class Snapshot(NamedTuple):
    """Records and quantiles of `slots`, the clock, and all cohorts."""

    slots: NDArray[np.int64]
    records: NDArray[np.uint8]
    quantiles: NDArray[np.float32]
    clock: NDArray[np.int64]
    cohorts: list[NDArray[Any]]

    @classmethod
    def of(cls, slots: NDArray[np.int64], state: State, quantiles: NDArray[np.float32], cohorts: Cohorts) -> Snapshot:
        """The vehicles in `slots` as they are."""
        own = np.unique(slots)
        kept = [np.asarray(column).copy() for column in cohorts]
        return cls(own, state.u1[own], quantiles[:, own], state.clock.copy(), kept)

    def restore(self, state: State, quantiles: NDArray[np.float32], cohorts: Cohorts) -> None:
        """Put everything back."""
        state.u1[self.slots] = self.records
        quantiles[:, self.slots] = self.quantiles
        state.clock[:] = self.clock
        columns: Sequence[NDArray[Any]] = cohorts
        for column, kept in zip(columns, self.cohorts, strict=True):
            np.copyto(column, kept)

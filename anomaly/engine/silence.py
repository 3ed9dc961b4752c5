"""Vehicles that say nothing for longer than is usual for them, in kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import kernel, part, rare
from anomaly.engine.layout import (
    F4,
    FLAGS,
    LAST_TS,
    MAINTENANCE,
    NEVER,
    RETIRED,
    RHYTHM,
    SILENT,
    Settled,
    State,
)
from anomaly.engine.outcome import Change

OPEN, END = int(Change.OPEN), int(Change.CLOSED)
UP, DOWN = F4(np.exp(0.1 * 0.99)), F4(np.exp(-0.1 * 0.01))


@part
def keep_time(slot: int, ts: int, state: State) -> None:
    """A reading came at `ts`: the vehicle's rhythm is the 99 % point of the ticks between two of its readings.

    ln r += 0.1 (1[gap > r] - 0.01): stochastic approximation of a quantile on a log scale, as that of thresholds.
    """
    last = state.i8[slot, LAST_TS]
    if last != NEVER and state.f4[slot, RHYTHM] > F4(0.0):
        state.f4[slot, RHYTHM] *= UP if F4(ts - last) > state.f4[slot, RHYTHM] else DOWN
    state.i8[slot, LAST_TS] = ts


@kernel
def limit(since: int, rhythm: np.float32, times: np.float32) -> int:
    """The time after which a vehicle is silent that was last heard at `since`."""
    return since + int(np.float64(rhythm) * np.float64(times))


@rare
def speak(i: int, slot: int, ts: int, start: int, excused: bool, state: State, silences: int, out: Settled) -> int:
    """A reading ends the silence since `start`, or shows one that nobody saw, if it is not `excused`.

    Answers how many changes of silences there are now.
    """
    known = state.u1[slot, FLAGS] & SILENT > 0
    late = ts > start and not known and not excused and state.u1[slot, FLAGS] & RETIRED == 0
    if late:
        out.silence_row[silences], out.silence[silences], out.silence_start[silences] = i, OPEN, start
        silences += 1
    if known or late:
        out.silence_row[silences], out.silence[silences], out.silence_start[silences] = i, END, start
        silences += 1
    state.u1[slot, FLAGS] &= np.uint8(255 - SILENT - RETIRED)
    return silences


@kernel
def unheard(slots: NDArray[np.int64], times: np.float32, before: int, state: State, found: NDArray[np.int64]) -> int:
    """Slots of vehicles that had let `times` of their rhythms pass before a time, and of whose silence nothing is told
    yet, into `found`; answers their number."""
    count = 0
    for i in range(slots.shape[0]):
        slot = slots[i]
        quiet = state.u1[slot, FLAGS] & (SILENT | RETIRED) == 0 and state.u1[slot, MAINTENANCE] == 0
        heard = state.i8[slot, LAST_TS] != NEVER and state.f4[slot, RHYTHM] > F4(0.0)
        if quiet and heard and limit(state.i8[slot, LAST_TS], state.f4[slot, RHYTHM], times) < before:
            found[count] = slot
            count += 1
    return count

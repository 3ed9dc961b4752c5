"""The second pass over a batch, once the model scored it: threshold, alarm, learning of the threshold, episodes.

Rules of a kernel (each cost measured time): no array views and no allocation, every constant typed, sums in a fixed
order, no fastmath; then the plain Python function behind it (`.py_func`) gives the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import kernel
from anomaly.engine.layout import (
    ALARMS,
    F4,
    GAP,
    LAST,
    MISSING,
    NEXT,
    PEAK,
    START,
    TOP,
    Observed,
    Policies,
    Readings,
    Settled,
    State,
)


@kernel
def adapt(q: np.float32, score: np.float32, arm: int, policies: Policies) -> np.float32:
    """The vehicle's own upper quantile after one more score; below the gate only, within the bound always.

    ln q += rate * (1[score > q] - (1 - quantile)): stochastic approximation of a quantile on a log scale.
    """
    if np.isfinite(score) and score < policies.gate[arm] * q:
        q = q * (policies.up[arm] if score > q else policies.down[arm])
        q = min(max(q, policies.q_fleet[arm] * policies.low[arm]), policies.q_fleet[arm] * policies.high[arm])
    return q


@kernel
def follow(
    episode: int,
    hit: bool,
    i: int,
    slot: int,
    ts: int,
    level: np.float32,
    gap: int,
    kind: int,
    changes: int,
    state: State,
    out: Settled,
) -> int:
    """One episode of one vehicle at one reading; answers how many changes there are now."""
    at = NEXT * episode
    gaps, alarms, top = GAP + episode, ALARMS + episode, TOP + episode
    change = 0
    if hit:
        if state.i4[slot, alarms] == 0:
            change = 1
            state.i8[slot, START + at] = ts
            state.f4[slot, top] = F4(-1.0)
        state.i8[slot, LAST + at] = ts
        state.i4[slot, alarms] += 1
        state.u2[slot, gaps] = 0
        if level > state.f4[slot, top]:
            state.f4[slot, top] = level
            state.i8[slot, PEAK + at] = ts
            change = 2 if change == 0 else change
    elif state.i4[slot, alarms] > 0:
        state.u2[slot, gaps] += 1
        if state.u2[slot, gaps] >= gap:
            change = 3
    if change > 0:
        out.change_row[changes] = i
        out.change_kind[changes] = kind
        out.change[changes] = change
        out.change_time[changes, 0] = state.i8[slot, START + at]
        out.change_time[changes, 1] = state.i8[slot, LAST + at]
        out.change_time[changes, 2] = state.i8[slot, PEAK + at]
        out.change_time[changes, 3] = state.i4[slot, alarms]
        out.change_level[changes] = state.f4[slot, top]
        changes += 1
    if change == 3:
        state.i4[slot, alarms] = 0
    return changes


@kernel
def settle(
    readings: Readings,
    scores: NDArray[np.float32],
    arms: NDArray[np.int16],
    gap: int,
    observed: Observed,
    state: State,
    quantiles: NDArray[np.float32],
    policies: Policies,
    out: Settled,
) -> int:
    """Second pass: threshold, alarm, learning of the threshold, episodes; answers how many changes there are."""
    signals = observed.reason.shape[1]
    changes = 0
    for i in range(readings.slots.shape[0]):
        if observed.status[i] > 1:
            continue
        slot = readings.slots[i]
        ts = readings.ts[i]
        arm = arms[slot]
        model = policies.model[arm]
        q = quantiles[model, slot]
        threshold = policies.k[arm]
        warm = observed.status[i] == 0
        if warm:
            threshold *= min(max(q / policies.q_fleet[arm], policies.low[arm]), policies.high[arm])
        level = scores[i] / threshold
        fault = warm and scores[i] > threshold
        sensor = False
        for j in range(signals):
            sensor = sensor or observed.reason[i, j] > MISSING
        out.threshold[i] = threshold
        out.level[i] = level
        out.kinds[i] = np.uint16((16 if fault else 0) + (2 if sensor else 0))
        if warm:
            quantiles[model, slot] = adapt(q, scores[i], arm, policies)
        changes = follow(0, fault, i, slot, ts, level, gap, 4, changes, state, out)
        changes = follow(1, sensor, i, slot, ts, level, gap, 1, changes, state, out)
        if fault:
            out.start[i] = state.i8[slot, START]
            out.nth[i] = state.i4[slot, ALARMS]
        elif sensor:
            out.start[i] = state.i8[slot, START + NEXT]
            out.nth[i] = state.i4[slot, ALARMS + 1]
        else:
            out.start[i] = 0
            out.nth[i] = 0
    return changes

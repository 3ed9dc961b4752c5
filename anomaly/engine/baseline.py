"""What is normal for one vehicle, in kernels: learned in its burn-in, of some signals again, and judged at birth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import part, rare
from anomaly.engine.frame import FrameArrays
from anomaly.engine.layout import (
    ABRUPT_ALARMS,
    ALARMS,
    COHORT,
    COUNT,
    EQUAL,
    F4,
    FLAGS,
    PARTIAL,
    RELEARNING,
    SETTLED,
    USED,
    Cohorts,
    Observed,
    State,
)


@part
def forget(slot: int, j: int, state: State) -> None:
    """No evidence of signal j, nothing gathered of it over time, and no jump that was waited for."""
    at = state.at
    state.f4[slot, at.evidence + j] = F4(0.0)
    state.u2[slot, at.equal + j] &= EQUAL
    if at.quick > at.fast:
        state.f4[slot, at.fast + j] = F4(0.0)
        state.f4[slot, at.slow + j] = F4(0.0)
        state.f4[slot, at.variance + j] = F4(0.0)
        state.f4[slot, at.before + j] = F4(np.nan)
    if at.record > at.abrupt:
        state.f4[slot, at.quick + j] = F4(0.0)


@rare
def own_baseline(slot: int, frame: FrameArrays, state: State, scratch: NDArray[np.float32]) -> None:
    """End of burn-in: the sums become prior + gain (own mean - prior), a signal seen less often being trusted less."""
    signals = frame.prior.shape[0]
    for j in range(signals):
        seen = state.u2[slot, state.at.burned + j]
        own = F4(0.0)
        if seen > 0:
            trust = min(F4(1.0), F4(seen) / F4(frame.burn_in))
            own = (state.f4[slot, state.at.baseline + j] / F4(seen) - frame.prior[j]) * trust
        scratch[0, j] = own
    for j in range(signals):
        baseline = frame.prior[j]
        for k in range(signals):
            baseline += frame.gain[j, k] * scratch[0, k]
        state.f4[slot, state.at.baseline + j] = baseline
        if state.u2[slot, state.at.burned + j] > 0:
            state.u2[slot, state.at.burned + j] = SETTLED
        forget(slot, j, state)


@rare
def birth(slot: int, frame: FrameArrays, state: State, cohorts: Cohorts, scratch: NDArray[np.float32]) -> np.float32:
    """How far a vehicle in its burn-in is from how vehicles are born; the formula is that of `Frame.basis`.

    With a cohort, what it is doing now counts as doubt, four times its square: the cohort's shift is told against how
    its vehicles were born, and how they were is not known so well. A cohort of which nothing is known judges nobody.
    """
    signals = frame.prior.shape[0]
    for j in range(signals):
        seen = state.u2[slot, state.at.burned + j]
        own = state.f4[slot, state.at.baseline + j] / F4(max(seen, 1)) - frame.prior[j]
        scratch[0, j] = own if seen > 0 else F4(0.0)
    noise = F4(1.0) / F4(state.i4[slot, COUNT])
    cohort, place = state.i4[slot, COHORT], cohorts.calendar[USED]
    known = cohort < 0
    total = F4(0.0)
    for k in range(signals):
        along, moved = F4(0.0), F4(0.0)
        for j in range(signals):
            along += frame.basis[k, j] * scratch[0, j]
            if cohort >= 0:
                shift = cohorts.shift[cohort, place, j]
                moved += frame.basis[k, j] * shift
                known = known or shift != F4(0.0)
        total += along * along / (frame.between[k] + noise + F4(4.0) * moved * moved)
    if not known:
        return F4(0.0)
    return F4(np.sqrt(total / F4(signals)))


@rare
def relearn(slot: int, frame: FrameArrays, learning: bool, state: State, out: Observed) -> None:
    """Signals that learn their baseline again while the vehicle goes on: as in burn-in, each by itself."""
    at = state.at
    open_signals = 0
    for j in range(frame.prior.shape[0]):
        if state.u1[slot, at.silent + j] != RELEARNING:
            continue
        seen = state.u2[slot, at.burned + j]
        if learning and out.scratch[3, j] > F4(0.0):
            seen += np.uint16(1)
            state.u2[slot, at.burned + j] = seen
            state.f4[slot, at.baseline + j] += out.scratch[1, j] + out.scratch[2, j]
        if np.int64(seen) >= frame.burn_in:
            own = state.f4[slot, at.baseline + j] / F4(seen) - frame.prior[j]
            state.f4[slot, at.baseline + j] = frame.prior[j] + frame.gain[j, j] * own
            state.u2[slot, at.burned + j] = SETTLED
            state.u1[slot, at.silent + j] = 0
        else:
            open_signals += 1
        forget(slot, j, state)
    if open_signals == 0:
        state.u1[slot, FLAGS] &= np.uint8(255 - PARTIAL)


@part
def in_episode(slot: int, state: State) -> bool:
    """Whether an episode of kind fault or abrupt is open: nothing is learned of such a vehicle."""
    fault = state.i4[slot, ALARMS] > 0
    abrupt = state.at.record > state.at.abrupt and state.i4[slot, state.at.abrupt // 4 + ABRUPT_ALARMS] > 0
    return fault or abrupt

"""The quality gate, in kernels: which readings count at all, and which of their values may be used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import part, rare
from anomaly.engine.baseline import forget
from anomaly.engine.frame import FrameArrays
from anomaly.engine.layout import (
    AHEAD_RUN,
    AHEAD_SLOT,
    AHEAD_TS,
    DROPOUT,
    EQUAL,
    F4,
    HEARD,
    LAST_TS,
    MISSING,
    NEVER,
    NOW,
    RANGE,
    RELEARNING,
    SETTLED,
    STEP,
    STUCK,
    SUSPECT,
    TRACKED,
    Limits,
    Observed,
    State,
)


@part
def accept(slot: int, ts: int, state: State, limits: Limits) -> int:
    """Status of a reading by its time alone: 0 accepted, 2 duplicate, 3 late, 4 ahead of everybody else.

    A time far ahead is believed once a second vehicle shows it too, or after ten in a row from the only one that
    sends: one wrong clock must neither close a cohort's period nor make everything after it late.
    """
    last = state.i8[slot, LAST_TS]
    if ts == last:
        return 2
    if ts < last:
        return 3
    clock = state.clock
    if limits.max_ahead > 0 and clock[NOW] != NEVER and ts > clock[NOW] + limits.max_ahead:
        other = clock[AHEAD_SLOT] >= 0 and clock[AHEAD_SLOT] != slot
        near = abs(ts - clock[AHEAD_TS]) <= limits.max_ahead
        clock[AHEAD_RUN] = clock[AHEAD_RUN] + 1 if clock[AHEAD_SLOT] == slot and near else 1
        if not (other and near) and clock[AHEAD_RUN] < 10 and clock[HEARD] > 1:
            clock[AHEAD_SLOT] = slot
            clock[AHEAD_TS] = ts
            return 4
    clock[AHEAD_SLOT] = -1
    clock[NOW] = max(clock[NOW], ts)
    if last == NEVER:
        clock[HEARD] += 1
    return 0


@part
def judge(i: int, slot: int, values: NDArray[np.float32], state: State, limits: Limits, out: Observed) -> int:
    """Why values of reading i must not be used (0: they may); keeps count of equal values and of the last one.

    One that is physically impossible is no last one: neither does a gap repeat it, nor is the way back from it a jump.
    """
    signals = limits.low.shape[0]
    at = state.at
    found = np.uint8(0)
    for j in range(signals):
        value, last, word = values[i, j], state.f4[slot, at.last + j], state.u2[slot, at.equal + j]
        equal = np.uint16(word & EQUAL)
        inside = np.isfinite(value) and value >= limits.low[j] and value <= limits.high[j]
        more = equal + np.uint16(1) if equal < EQUAL else equal
        again = np.uint16(more) if value == last else np.uint16(0)
        stuck = limits.stuck_after[j] > 0 and np.int64(again) >= limits.stuck_after[j]
        reason = np.uint8(STUCK) if stuck else np.uint8(0)
        reason = np.uint8(STEP) if abs(value - last) > limits.max_step[j] else reason
        reason = reason if inside else np.uint8(RANGE)
        reason = reason if np.isfinite(value) else np.uint8(MISSING)
        state.f4[slot, at.last + j] = value if inside else last
        state.u2[slot, at.equal + j] = np.uint16((again if inside else equal) | (word & ~EQUAL))
        out.reason[i, j] = reason
        found |= reason
    if found == 0:
        out.masked[0] += signals
    else:
        for j in range(signals):
            out.masked[out.reason[i, j]] += 1
    return int(found)


@part
def isolate(i: int, slot: int, frame: FrameArrays, limits: Limits, state: State, out: Observed) -> None:
    """One signal alone that jumps away from its evidence counts as missing; if it is not back at the next reading, or
    was missing before, it is its sensor's fault, until it is: a physical change moves others too, or takes its time.

    A jump comes from near its evidence, half as far as the limit at most, and is back there. What drifts is none, nor
    is an outlier on the way: there the evidence is a quarter of the limit or more.
    After `silent_after` readings it is believed: no fault of the vehicle is hidden for longer.
    Nothing is said of a signal that learns its baseline again: where it was is not known.
    """
    signals = frame.prior.shape[0]
    at = state.at
    far = 0
    which = 0
    for j in range(signals):
        evidence = state.f4[slot, at.evidence + j]
        away = abs(out.scratch[1, j] - evidence)
        known = out.scratch[3, j] > F4(0.0) and state.u1[slot, at.silent + j] < RELEARNING
        word, near = state.u2[slot, at.equal + j], away <= F4(0.5) * frame.step[j]
        calm = abs(evidence) <= F4(0.25) * frame.step[j]
        jumped = word & TRACKED > 0 and calm and away > frame.step[j]
        held = word & SUSPECT > 0 and state.u1[slot, at.silent + j] <= limits.silent_after
        if known and (jumped or (held and away > F4(0.75) * frame.step[j])):
            far += 1
            which = j
        bits = TRACKED if near else (SUSPECT if held else np.uint16(0))
        state.u2[slot, at.equal + j] = np.uint16((word & EQUAL) | bits) if known else word
    if far == 1 and signals >= 3:
        out.masked[out.reason[i, which]] -= 1
        out.masked[STEP] += 1
        out.reason[i, which] = STEP if state.u1[slot, at.silent + which] > 0 else MISSING
        out.scratch[3, which] = F4(0.0)
        state.u2[slot, at.equal + which] |= SUSPECT


@rare
def drop_out(i: int, slot: int, limits: Limits, state: State, out: Observed) -> None:
    """Signals that the vehicle used to send, and that have been silent for too long; and no evidence of those that are
    stuck: what was gathered since they are is not the vehicle's."""
    at = state.at
    for j in range(out.reason.shape[1]):
        if out.reason[i, j] == STUCK:
            forget(slot, j, state)
        silent = state.u1[slot, at.silent + j]
        known = state.u2[slot, at.burned + j] == SETTLED
        if out.reason[i, j] == MISSING and known and limits.silent_after < silent < RELEARNING:
            out.reason[i, j] = DROPOUT
            out.masked[MISSING] -= 1
            out.masked[DROPOUT] += 1

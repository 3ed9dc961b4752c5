"""The first pass over a batch, in arrival order: every reading into its vehicle's state, its features out.

Nothing here depends on a score, so that how a stream is cut into batches cannot matter.

Rules of a kernel (each cost measured time): no array views and no allocation, every constant typed, sums in a fixed
order, no fastmath; then the plain Python function behind it (`.py_func`) gives the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import kernel, part, prefetch
from anomaly.engine.baseline import birth, forget, in_episode, own_baseline, relearn
from anomaly.engine.conformal import conform
from anomaly.engine.frame import MOST_AWAY, FrameArrays
from anomaly.engine.happen import happen
from anomaly.engine.layout import (
    BORN_FROM,
    CLIP,
    COHORT,
    CONFIRMED,
    COUNT,
    DISMISSED,
    EXCUSED,
    F4,
    FAST,
    FLAGS,
    GROWN,
    HEAD,
    IN_EPISODE,
    IN_FAULT,
    IN_MAINTENANCE,
    IN_PARTIAL,
    LAST_TS,
    LOOK_AHEAD,
    MAINTENANCE,
    MISSING,
    NEVER,
    PARTIAL,
    REGIME,
    RELEARNING,
    RESTARTED,
    RHYTHM,
    SLOW,
    STOPPED,
    STRANGE,
    UNSEEN,
    USED,
    Cohorts,
    Limits,
    Observed,
    Readings,
    State,
    Waiting,
)
from anomaly.engine.periods import count_cohort, count_sizes, enter_period, is_ready, join_cohort, move_on
from anomaly.engine.quality import accept, drop_out, isolate, judge
from anomaly.engine.silence import keep_time


@kernel
def fresh(slots: NDArray[np.int64], signals: int, rhythm: np.float32, state: State) -> None:
    """The records of vehicles that were never seen: no time, no cohort, no restart, no last value."""
    for i in range(slots.shape[0]):
        slot = slots[i]
        for k in range(state.at.record):
            state.u1[slot, k] = 0
        state.i8[slot, LAST_TS] = NEVER
        state.i8[slot, RESTARTED] = NEVER
        state.i4[slot, HEAD] = -1
        state.i4[slot, COHORT] = -1
        state.f4[slot, RHYTHM] = rhythm
        for j in range(signals):
            state.f4[slot, state.at.last + j] = F4(np.nan)
            forget(slot, j, state)


@part
def find_regime(values: NDArray[np.float32], i: int, before: int, frame: FrameArrays) -> int:
    """The nearest regime by the regime signals that are there; without any, the one before."""
    signals, fields = frame.mean.shape[1], frame.center.shape[1]
    seen = 0
    for c in range(fields):
        seen += 1 if np.isfinite(values[i, signals + c]) else 0
    if seen == 0:
        return before
    best = np.inf
    regime = before
    for r in range(frame.center.shape[0]):
        distance = np.float64(0.0)
        for c in range(fields):
            x = np.float64(values[i, signals + c])
            step = (x - frame.center[r, c]) * frame.inv_scale[c]
            distance += step * step if np.isfinite(x) else np.float64(0.0)
        if distance < best:
            best = distance
            regime = r
    return regime


@part
def gather(i: int, slot: int, frame: FrameArrays, limits: Limits, state: State, out: Observed) -> None:
    """The feature row of reading i: what is known of the signals that are not silent, rescaled by their number."""
    signals = frame.prior.shape[0]
    at = state.at
    heard = 0
    for j in range(signals):
        heard += 1 if state.u1[slot, at.silent + j] <= limits.silent_after else 0
    scale = np.sqrt(F4(signals) / F4(max(heard, 1)))
    first = 0
    if frame.wide:
        first = 2 * signals
        for j in range(signals):
            there = state.u1[slot, at.silent + j] == 0
            out.features[i, j] = out.features[i, j] * scale if there else F4(0.0)
            out.features[i, signals + j] = out.features[i, signals + j] * scale if there else F4(0.0)
        for j in range(signals):
            kept = scale if state.u1[slot, at.silent + j] <= limits.silent_after else F4(0.0)
            out.features[i, 3 * signals + j] = state.f4[slot, at.fast + j] * kept
            out.features[i, 4 * signals + j] = state.f4[slot, at.slow + j] * kept
            out.features[i, 5 * signals + j] = np.sqrt(state.f4[slot, at.variance + j]) * kept
    for j in range(signals):
        kept = scale if state.u1[slot, at.silent + j] <= limits.silent_after else F4(0.0)
        out.features[i, first + j] = state.f4[slot, at.evidence + j] * kept * out.scratch[4, j]
    if frame.quick_weight > F4(0.0):
        blocks = 6 if frame.wide else 1
        quick = (blocks * signals + 7) // 8 * 8
        for j in range(signals):
            kept = scale if state.u1[slot, at.silent + j] <= limits.silent_after else F4(0.0)
            out.features[i, quick + j] = state.f4[slot, at.quick + j] * kept


@part
def widen(i: int, slot: int, frame: FrameArrays, state: State, out: Observed) -> None:
    """What wide features ask for beyond the evidence; before the evidence takes the deviation in.

    The variance is West's (1979) update with exponential weights: v = (1 - w) (v + w d^2), d to the mean before.
    """
    signals = frame.prior.shape[0]
    at = state.at
    for j in range(signals):
        deviation, used = out.scratch[1, j], out.scratch[3, j] > F4(0.0)
        before, variance = state.f4[slot, at.before + j], state.f4[slot, at.variance + j]
        step = deviation - state.f4[slot, at.evidence + j]
        wider = (F4(1.0) - frame.weight) * (variance + frame.weight * step * step)
        out.features[i, j] = deviation
        out.features[i, signals + j] = deviation - before if np.isfinite(before) else F4(0.0)
        state.f4[slot, at.before + j] = deviation if used else before
        state.f4[slot, at.variance + j] = wider if used else variance
    for j in range(signals):
        deviation, used = out.scratch[1, j], out.scratch[3, j] > F4(0.0)
        fast, slow = state.f4[slot, at.fast + j], state.f4[slot, at.slow + j]
        state.f4[slot, at.fast + j] = fast + FAST * (deviation - fast) if used else fast
        state.f4[slot, at.slow + j] = slow + SLOW * (deviation - slow) if used else slow


@part
def is_unseen(values: NDArray[np.float32], i: int, regime: int, frame: FrameArrays) -> bool:
    """Whether a reading is farther from its regime, in the regime signals that are there, than any in training."""
    signals = frame.mean.shape[1]
    distance = np.float64(0.0)
    for c in range(frame.center.shape[1]):
        x = np.float64(values[i, signals + c])
        step = (x - frame.center[regime, c]) * frame.inv_scale[c]
        distance += step * step if np.isfinite(x) else np.float64(0.0)
    return bool(distance > frame.reach[regime])


@part
def add_slopes(i: int, regime: int, values: NDArray[np.float32], frame: FrameArrays, out: Observed) -> None:
    """Into `center`: what the regime signals of reading i, as far as they are from the middle of their regime, do."""
    signals = frame.prior.shape[0]
    for j in range(signals):
        out.center[i, j] = F4(0.0)
    for c in range(frame.slope.shape[1]):
        x = np.float64(values[i, signals + c])
        away = (x - frame.center[regime, c]) * frame.inv_scale[c]
        away = min(max(away, -MOST_AWAY), MOST_AWAY) if np.isfinite(x) else np.float64(0.0)
        for j in range(signals):
            out.center[i, j] += F4(away * frame.slope[regime, c, j])


@part
def compare(
    i: int,
    slot: int,
    values: NDArray[np.float32],
    frame: FrameArrays,
    limits: Limits,
    state: State,
    cohorts: Cohorts,
    out: Observed,
) -> None:
    """Rows of `scratch`: place among the healthy of the regime, deviation from the usual, the usual, 1 where used, and
    what evidence is worth in such a cohort, 1 in a usual one."""
    signals = frame.prior.shape[0]
    at = state.at
    cohort, regime = state.i4[slot, COHORT], state.u1[slot, REGIME]
    add_slopes(i, regime, values, frame, out)
    for j in range(signals):
        filled = state.f4[slot, at.last + j] if limits.previous[j] else limits.fill[j]
        value = filled if out.reason[i, j] == MISSING else values[i, j]
        used = out.reason[i, j] <= MISSING and np.isfinite(value)
        z = F4((np.float64(value) - frame.mean[regime, j]) * frame.inv_sd[regime, j]) - out.center[i, j]
        out.scratch[0, j] = min(max(z, -CLIP), CLIP) if used else F4(0.0)
        out.scratch[3, j] = F4(1.0) if used else F4(0.0)
    if state.i4[slot, COUNT] >= frame.burn_in:
        for j in range(signals):
            known = state.u1[slot, at.silent + j] != RELEARNING
            out.scratch[2, j] = state.f4[slot, at.baseline + j] if known else frame.prior[j]
    else:
        for j in range(signals):
            out.scratch[2, j] = frame.prior[j]
    if cohort >= 0:
        for j in range(signals):
            shift = cohorts.shift[cohort, cohorts.calendar[USED], j]
            out.center[i, j] += out.scratch[2, j] + shift
            out.scratch[4, j] = F4(1.0) / cohorts.scale[cohort, cohorts.calendar[USED], j]
            out.scratch[1, j] = out.scratch[0, j] - shift - out.scratch[2, j]
    else:
        for j in range(signals):
            out.center[i, j] += out.scratch[2, j]
            out.scratch[4, j] = F4(1.0)
            out.scratch[1, j] = out.scratch[0, j] - out.scratch[2, j]


@part
def learn(
    i: int,
    slot: int,
    values: NDArray[np.float32],
    frame: FrameArrays,
    limits: Limits,
    state: State,
    cohorts: Cohorts,
    period: int,
    out: Observed,
) -> int:
    """One accepted reading into its vehicle's state: quality, context, baseline, evidence; answers bits of `note`.

    Short loops without branches over the signals, which the compiler makes vector instructions of.
    """
    signals = frame.prior.shape[0]
    at = state.at
    cohort, flags = state.i4[slot, COHORT], state.u1[slot, FLAGS]
    regime = find_regime(values, i, int(state.u1[slot, REGIME]), frame)
    state.u1[slot, REGIME] = regime
    out.regime[i] = regime
    warm = state.i4[slot, COUNT] >= frame.burn_in
    found = judge(i, slot, values, state, limits, out)
    if frame.conformal:
        note = conform(i, slot, values, period, frame, limits, state, out)
        if warm and found > 0:
            drop_out(i, slot, limits, state, out)
        return note
    compare(i, slot, values, frame, limits, state, cohorts, out)
    if state.u1[slot, MAINTENANCE] > 0:
        return IN_MAINTENANCE
    if warm:
        isolate(i, slot, frame, limits, state, out)
    if warm and frame.period > 0:
        count_cohort(slot, period, state, cohorts, out)
    if frame.wide:
        widen(i, slot, frame, state, out)
    for j in range(signals):
        evidence = state.f4[slot, at.evidence + j]
        nearer = evidence + frame.weight * (out.scratch[1, j] - evidence)
        state.f4[slot, at.evidence + j] = nearer if out.scratch[3, j] > F4(0.0) else evidence
    if frame.quick_weight > F4(0.0):
        for j in range(signals):
            quick = state.f4[slot, at.quick + j]
            nearer = quick + frame.quick_weight * (out.scratch[1, j] - quick)
            state.f4[slot, at.quick + j] = nearer if out.scratch[3, j] > F4(0.0) else quick
    for j in range(signals):
        silent = state.u1[slot, at.silent + j]
        unheard = silent + np.uint8(1) if silent < RELEARNING - 1 else silent
        heard = out.scratch[3, j] > F4(0.0) and silent < RELEARNING
        state.u1[slot, at.silent + j] = np.uint8(0) if heard else np.uint8(unheard)
    if warm and found > 0:
        drop_out(i, slot, limits, state, out)
    learning = flags & CONFIRMED == 0
    if not warm and learning:
        for j in range(signals):
            shift = cohorts.shift[cohort, cohorts.calendar[USED], j] if cohort >= 0 else F4(0.0)
            used = out.scratch[3, j] > F4(0.0)
            state.f4[slot, at.baseline + j] += out.scratch[0, j] - shift if used else F4(0.0)
            state.u2[slot, at.burned + j] += np.uint16(1) if used else np.uint16(0)
    note = 0 if learning else IN_FAULT
    if flags & PARTIAL:
        wrong = in_episode(slot, state)
        relearn(slot, frame, learning and not wrong, state, out)
        note |= IN_PARTIAL | (IN_EPISODE if wrong else 0)
    return note


@kernel
def observe(
    readings: Readings,
    rows: tuple[int, int],
    applied: int,
    frame: FrameArrays,
    limits: Limits,
    state: State,
    cohorts: Cohorts,
    waiting: Waiting,
    out: Observed,
) -> int:
    """First pass over the rows [first, end): every reading into its vehicle's state, its features out.

    Answers how many events took effect in the batch, `applied` of them before. It stops before a reading that needs a
    period of the cohorts that is not merged yet: `calendar[STOPPED]`.
    """
    first, end = rows
    period = start = 0
    for i in range(first, end):
        if i + LOOK_AHEAD < end:
            for byte in range(0, state.at.record, 64):
                prefetch(state.raw, readings.slots[i + LOOK_AHEAD] * state.at.record + byte)
        slot = readings.slots[i]
        ts = readings.ts[i]
        if frame.period > 0 and (i == first or ts < start or ts >= start + frame.period):
            period = ts // frame.period
            start = period * frame.period
        if frame.period > 0 and not frame.conformal and not is_ready(period, cohorts):
            cohorts.calendar[STOPPED] = i + 1
            return applied
        status = accept(slot, ts, state, limits)
        out.status[i] = status
        if status > 1:
            continue
        note = EXCUSED if state.u1[slot, MAINTENANCE] > 0 else 0
        head = state.i4[slot, HEAD]
        while head >= 0 and waiting.ts[head] <= ts:
            happened = happen(slot, head, frame.burn_in, state, waiting)
            if happened & DISMISSED:
                out.until[i] = max(out.until[i], waiting.until[head]) if note & DISMISSED else waiting.until[head]
            note |= happened
            out.event_row[applied] = i
            out.event[applied] = head
            applied += 1
            head = waiting.after[head]
        state.i4[slot, HEAD] = head
        out.since[i] = state.i8[slot, LAST_TS]
        out.rhythm[i] = state.f4[slot, RHYTHM]
        keep_time(slot, ts, state)
        if frame.period > 0 and not frame.conformal:
            cohort = join_cohort(slot, readings.cohort[i], state)
            move_on(out.since[i], ts, period, (frame.period, limits.grace), cohorts)
            warm = state.i4[slot, COUNT] >= frame.burn_in
            if enter_period(cohort, out.since[i], period, frame.period, warm, cohorts):
                count_sizes(slot, cohort, period, frame, state, cohorts)
        note |= learn(i, slot, readings.values, frame, limits, state, cohorts, period, out)
        if is_unseen(readings.values, i, out.regime[i], frame):
            note |= UNSEEN
            out.masked[STRANGE] += 1
        if not frame.conformal:
            gather(i, slot, frame, limits, state, out)
        out.note[i] = note
        count = state.i4[slot, COUNT]
        out.warm[i] = min(F4(1.0), F4(count) / F4(frame.burn_in))
        out.ill[i] = F4(0.0)
        if count < frame.burn_in:
            out.status[i] = 1
        learns = note & IN_MAINTENANCE == 0 and (count >= frame.burn_in or note & IN_FAULT == 0)
        if learns:
            state.i4[slot, COUNT] = count + 1
        if learns and count < frame.burn_in:
            born = state.u1[slot, FLAGS] & GROWN == 0
            if frame.between.shape[0] > 0 and born and count + 1 >= min(BORN_FROM, frame.burn_in):
                out.ill[i] = birth(slot, frame, state, cohorts, out.scratch)
            if count + 1 == frame.burn_in:
                state.u1[slot, FLAGS] |= np.uint8(GROWN)
            if count + 1 == frame.burn_in and not frame.conformal:
                own_baseline(slot, frame, state, out.scratch)
    return applied

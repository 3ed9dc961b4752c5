"""The periods of cohorts: which one is open, what a reading counts for, and which shift it is given.

A reading counts for the period of its own `ts`. The open period t closes once the 90 % point of the times of those
vehicles that reached it has passed its end plus the grace: one wrong clock must not close a day. What all vehicles did
in t, merged over the partitions of the stream, is used from the start of t + 2 on; a reading that needs a period that
is not merged yet is not taken: `observe` stops before it. Of a long gap one period closes with each reading.

Of a cohort is known where its readings lie (`shift`) and how large the evidence of its vehicles is (`scale`).

Rules of a kernel (each cost measured time): no array views and no allocation, every constant typed, sums in a fixed
order, no fastmath; then the plain Python function behind it (`.py_func`) gives the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import kernel, part, rare
from anomaly.engine.frame import FrameArrays
from anomaly.engine.layout import (
    AHEAD,
    BINS,
    CLOSED,
    COHORT,
    COUNT,
    F4,
    FIRST,
    LATE,
    MERGED,
    MIN_READINGS,
    MIN_VEHICLES,
    NEVER,
    NONE_KNOWN,
    OPEN,
    PASSED,
    PERIODS,
    REACHED,
    RECENT,
    SHIFTS,
    SIZES,
    TOLD,
    USED,
    WATCHED,
    Cohorts,
    Observed,
    State,
)


@rare
def begin(period: int, cohorts: Cohorts) -> None:
    """Open `period` with nothing counted in any before it; the merges of those come to their shifts."""
    calendar = cohorts.calendar
    calendar[OPEN] = calendar[FIRST] = period
    calendar[TOLD] = period - 2
    calendar[MERGED] = period - 2 - CLOSED
    for p in range(WATCHED):
        calendar[REACHED + p] = calendar[PASSED + p] = 0
    for cohort in range(cohorts.shift.shape[0]):
        for p in range(PERIODS):
            cohorts.vehicles[cohort, p] = 0
            for j in range(cohorts.shift.shape[2]):
                for b in range(BINS + SIZES):
                    cohorts.histogram[cohort, p, j, b] = 0


@part
def is_ready(here: int, cohorts: Cohorts) -> bool:
    """Whether all is merged that a reading of period `here` needs; the very first reading opens its period.

    Where that one's clock was ahead of the next vehicle's, that begins anew.
    """
    calendar = cohorts.calendar
    opened = calendar[OPEN]
    if opened == NEVER:
        begin(max(here, calendar[TOLD] + 1), cohorts)
    elif here < opened and opened == calendar[FIRST] and calendar[REACHED + opened % WATCHED] < 2:
        begin(here, cohorts)
    return bool(min(here, calendar[OPEN] + 1) - 2 <= calendar[MERGED])


@part
def enough_passed(p: int, cohorts: Cohorts) -> bool:
    """Whether the 90 % point of the vehicles that reached the open period is past the end of p and the grace."""
    calendar = cohorts.calendar
    reached, passed = calendar[REACHED + calendar[OPEN] % WATCHED], calendar[PASSED + p % WATCHED]
    return bool(10 * passed >= reached and passed >= min(2, reached))


@part
def move_on(before: int, ts: int, here: int, times: tuple[int, int], cohorts: Cohorts) -> None:
    """A vehicle goes on from `before` (NEVER: it is new) to `ts`, in period `here`; `times` are a period's length and
    the grace. The open period is closed if that was the last of it.

    Which shift the reading is given is told by the period that was open before: of a later one all is not known yet.
    """
    period, grace = times
    opened = cohorts.calendar[OPEN]
    cohorts.calendar[USED] = shift_of(here, opened)
    if before == NEVER or before < here * period or ts - grace >= (opened + 1) * period:
        reach(before, ts, here, times, cohorts)


@rare
def reach(before: int, ts: int, here: int, times: tuple[int, int], cohorts: Cohorts) -> None:
    """See `move_on`: it is the first reading of its vehicle in a period, or beyond the end of the open one.

    Of each of WATCHED periods from the open one on it is known how many vehicles reached it, and how many passed its
    end and the grace. Where enough of them are beyond that, everything begins anew: nothing before is of use there.
    """
    calendar = cohorts.calendar
    period, grace = times
    opened, done = calendar[OPEN], (ts - grace) // period - 1
    last = opened + WATCHED - 1
    first = opened if before == NEVER else max(opened, before // period + 1)
    for p in range(first, min(here, last) + 1):
        calendar[REACHED + p % WATCHED] += 1
    first = opened if before == NEVER else max(opened, (before - grace) // period)
    for p in range(first, min(done, last) + 1):
        calendar[PASSED + p % WATCHED] += 1
    if done >= opened and enough_passed(opened, cohorts):
        if done >= last and enough_passed(last, cohorts):
            begin(here, cohorts)
            calendar[REACHED + here % WATCHED] = 1
        else:
            calendar[REACHED + opened % WATCHED] = calendar[PASSED + opened % WATCHED] = 0
            calendar[OPEN] = opened + 1


@part
def join_cohort(slot: int, told: int, state: State) -> int:
    """The cohort of a vehicle: the one its reading tells (-1: none told), else the one it was in."""
    before: int = state.i4[slot, COHORT]
    if told < 0 or told == before:
        return before
    state.i4[slot, COHORT] = told
    return told


@kernel
def shift_of(here: int, opened: int) -> int:
    """Where the shift stands that readings of period `here` are given while `opened` is the open one."""
    return min(max(here, opened - SHIFTS // 2), opened + 1) % SHIFTS


@part
def enter_period(cohort: int, before: int, here: int, period: int, warm: bool, cohorts: Cohorts) -> bool:
    """Whose vehicle the reading, of period `here`, is among those of its period; whether it is the first of it."""
    calendar = cohorts.calendar
    first = False
    if warm and cohort >= 0:
        cohorts.changed[cohort] = True
        if here < calendar[OPEN]:
            calendar[LATE] += 1
        elif here <= calendar[OPEN] + AHEAD and (before == NEVER or before < here * period):
            cohorts.vehicles[cohort, here % PERIODS] += 1
            first = True
    return first


@part
def count_sizes(slot: int, cohort: int, here: int, frame: FrameArrays, state: State, cohorts: Cohorts) -> None:
    """How large the evidence of a vehicle is, in eighths of what is usual, into the histograms of its cohort; not
    before it had two time constants to gather."""
    if F4(state.i4[slot, COUNT] - frame.burn_in) * frame.weight < F4(2.0):
        return
    for j in range(frame.inv_usual.shape[0]):
        size = abs(state.f4[slot, state.at.evidence + j]) * frame.inv_usual[j] * F4(8.0)
        cohorts.histogram[cohort, here % PERIODS, j, BINS + np.int64(min(size, F4(SIZES - 1)))] += 1


@part
def count_cohort(slot: int, period: int, state: State, cohorts: Cohorts, out: Observed) -> None:
    """The reading's places beside what is usual for its vehicle, into the histograms of its cohort."""
    cohort, opened = state.i4[slot, COHORT], cohorts.calendar[OPEN]
    if cohort < 0 or period < opened or period > opened + AHEAD:
        return
    for j in range(out.scratch.shape[1]):
        if out.scratch[3, j] > F4(0.0):
            place = (out.scratch[0, j] - out.scratch[2, j]) * F4(10.0) + F4(120.5)
            cohorts.histogram[cohort, period % PERIODS, j, np.int64(min(max(place, F4(0.0)), F4(240.0)))] += 1


@part
def has_enough(cohort: int, period: int, cohorts: Cohorts) -> bool:
    """Whether enough vehicles were seen in one of the CLOSED periods up to `period`."""
    vehicles = np.int64(0)
    for p in range(period - CLOSED + 1, period + 1):
        vehicles = max(vehicles, cohorts.vehicles[cohort, p % PERIODS])
    return bool(vehicles >= MIN_VEHICLES)


@part
def quartiles(cohort: int, j: int, period: int, cohorts: Cohorts) -> tuple[np.float32, np.float32, int]:
    """The median of signal j in the CLOSED periods up to `period`, the spread that the quartiles are those of, were it
    normal, and how many readings there are. Inside a bin readings count as spread evenly."""
    total = np.int64(0)
    for p in range(period - CLOSED + 1, period + 1):
        for b in range(BINS):
            total += np.int64(cohorts.histogram[cohort, p % PERIODS, j, b])
    low = median = high = F4(0.0)
    seen = np.int64(0)
    for b in range(BINS):
        more = np.int64(0)
        for p in range(period - CLOSED + 1, period + 1):
            more += np.int64(cohorts.histogram[cohort, p % PERIODS, j, b])
        begins, each = F4(b) * F4(0.1) - F4(12.05), F4(0.1) / F4(max(int(more), 1))
        if 4 * seen < total <= 4 * (seen + more):
            low = begins + (F4(total) * F4(0.25) - F4(seen)) * each
        if 2 * seen < total <= 2 * (seen + more):
            median = begins + (F4(total) * F4(0.5) - F4(seen)) * each
        if 4 * seen < 3 * total <= 4 * (seen + more):
            high = begins + (F4(total) * F4(0.75) - F4(seen)) * each
        seen += more
    return median, (high - low) * F4(0.7413), int(total)


@part
def scale_of(cohort: int, j: int, period: int, cohorts: Cohorts) -> np.float32:
    """The size of evidence of signal j that one vehicle in ten passes in the RECENT periods up to `period`, and two
    more, so that of a small cohort those with a fault do not hide themselves: beside the usual size, 1 at least. Inside
    a bin they count as spread evenly."""
    total = np.int64(0)
    for p in range(period - RECENT + 1, period + 1):
        for b in range(BINS, BINS + SIZES):
            total += np.int64(cohorts.histogram[cohort, p % PERIODS, j, b])
    above = F4(0.1) * F4(total) + F4(2 * RECENT)
    b = BINS + SIZES
    more = F4(0.0)
    while above >= F4(0.0) and b > BINS:
        b -= 1
        count = np.int64(0)
        for p in range(period - RECENT + 1, period + 1):
            count += np.int64(cohorts.histogram[cohort, p % PERIODS, j, b])
        more = F4(count)
        above -= more
    size = F4(b - BINS) - above / max(more, F4(1.0))
    return max(size * F4(0.125), F4(1.0))


@kernel
def shift_cohorts(period: int, cohorts: Cohorts, medians: NDArray[np.float32]) -> None:
    """`period` is merged: the shift of period + 2 is the shrunk median of the CLOSED periods up to it, its scale that
    of evidence in the RECENT ones; make room.

    A median m of n readings of spread s is shrunk by max(0, 1 - e^2 / m^2) with e = 2 * 1.25 s / sqrt(n), twice its own
    error. What is shrunk to nothing is NONE_KNOWN, which no value feels; only a cohort of which nothing is known has 0.
    `medians` [cohorts, d] takes the medians as they are, NaN where there is too little to tell one.
    """
    free = (period - CLOSED + 1) % PERIODS
    for cohort in range(cohorts.shift.shape[0]):
        enough = has_enough(cohort, period, cohorts)
        for j in range(cohorts.shift.shape[2]):
            middle, spread, total = quartiles(cohort, j, period, cohorts) if enough else (F4(0.0), F4(0.0), 0)
            shift, median = F4(0.0), F4(np.nan)
            if total >= MIN_READINGS:
                median = middle
                noise = F4(6.25) * spread * spread / F4(total)
                shift = median * max(F4(0.0), F4(1.0) - noise / max(median * median, F4(1e-9)))
                shift = shift if shift != F4(0.0) else NONE_KNOWN
            medians[cohort, j] = median
            cohorts.shift[cohort, (period + 2) % SHIFTS, j] = shift
            scale = scale_of(cohort, j, period, cohorts) if enough else F4(1.0)
            cohorts.scale[cohort, (period + 2) % SHIFTS, j] = scale
            for b in range(BINS + SIZES):
                cohorts.histogram[cohort, free, j, b] = 0
        cohorts.vehicles[cohort, free] = 0
    cohorts.calendar[MERGED] = period

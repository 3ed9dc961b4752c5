"""Conformal features of single streams: how rare each reading is among the stream's own past, and nothing of others.

Four plain signals are taken of each scored signal x, and each becomes -ln p, p being its rank in its own past, which is
kept as a histogram on a log scale that forgets (online conformal p-values; Laxhammar and Falkman 2014). A reading whose
mean is no record among the vehicle's last `recent` readings has features of 0: one event, one alarm. Which of the
statistics count, `recent` (RECENT at most) and how fast a histogram forgets are the frame's.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import part, rare
from anomaly.engine.frame import FrameArrays
from anomaly.engine.layout import (
    CONFIRMED,
    F4,
    FLAGS,
    IN_FAULT,
    IN_MAINTENANCE,
    MAINTENANCE,
    MISSING,
    PARTIAL,
    REGIME,
    RELEARNING,
    RING,
    SETTLED,
    SIGNAL,
    STATISTICS,
    Limits,
    Observed,
    State,
)

RECENT = 300
"""The most readings among which an alarm has to be a record."""
BINS, PER_E, MIDDLE = (
    400,
    12.0,
    200.0,
)  # bins, those in a factor of e, the one of the own scale
BEYOND = 2.0  # nats for each factor of e beyond the largest value so far, which itself fades
FADE = F4(0.9999)
SLOW_MEAN, FAST_MEAN, SEASON_MEAN = F4(0.003), F4(0.1), F4(0.02)
LARGEST = 1e30  # beyond, differences are no float32

# Where things stand among the SIGNAL columns of a signal; its slow mean is the record's baseline.
FAST, BEFORE, SEASON, SEEN, SCALE, TOTAL, TOP = 0, 1, 2, 3, 4, 8, 12
HOURS, VISITS, HISTOGRAM = 16, 64, 112  # 48 means (24 hours of weekdays, then of weekends), how often each was seen


@part
def forget_past(slot: int, j: int, state: State) -> None:
    """Signal j begins again, as if it had never been seen; so do the vehicle's records."""
    at = state.at
    if at.end > at.conformal:
        for k in range(SIGNAL):
            state.f4[slot, at.conformal + j * SIGNAL + k] = F4(0.0)
        for k in range(at.end - RING, at.end):
            state.f4[slot, k] = F4(0.0)


@part
def rarity(  # a kernel: arrays in named tuples
    slot: int, first: int, which: int, value: np.float32, decay: np.float32, state: State
) -> np.float32:
    """-ln p of statistic `which` of the signal whose columns begin at `first`; then the value joins its past, in which
    each reading weighs `decay` of what it did before.

    p = (1 + those as large) / (1 + all), those in the same bin counting half. The first value above 0 sets the scale.
    """
    scale, total, top = first + SCALE + which, first + TOTAL + which, first + TOP + which
    bins = first + HISTOGRAM + which * BINS
    if state.f4[slot, scale] <= F4(0.0):
        state.f4[slot, scale] = value
    place = 0.0
    if value > F4(0.0):
        place = MIDDLE + PER_E * math.log(np.float64(value) / np.float64(state.f4[slot, scale]))
    own = int(min(max(place, 0.0), BINS - 1.0))
    larger = F4(0.5) * state.f4[slot, bins + own]
    for k in range(bins + own + 1, bins + BINS):
        larger += state.f4[slot, k]
    nats = -math.log((1.0 + np.float64(larger)) / (1.0 + np.float64(state.f4[slot, total])))
    highest = state.f4[slot, top]
    if F4(0.0) < highest < value:
        nats += BEYOND * math.log(np.float64(value) / np.float64(highest))
    for k in range(bins, bins + BINS):
        state.f4[slot, k] *= decay
    state.f4[slot, bins + own] += F4(1.0)
    state.f4[slot, total] = state.f4[slot, total] * decay + F4(1.0)
    state.f4[slot, top] = max(highest * FADE, value)
    return F4(nats)


@part
def take_in(  # noqa: PLR0913  # a kernel: arrays in named tuples
    i: int, slot: int, j: int, x: np.float32, hour: int, frame: FrameArrays, state: State, out: Observed
) -> None:
    """The statistics of signal j at value x, each against what was known before it, as -ln p into the features: 0 for
    those that do not count.

    |x - slow mean|, |x - value before|, the fast mean of |x - mean of this hour|, |fast mean - slow mean|.
    """
    signals = out.reason.shape[1]
    at = state.at
    first = at.conformal + j * SIGNAL
    seen = state.f4[slot, first + SEEN] + F4(1.0)
    if seen == F4(1.0):
        state.f4[slot, at.baseline + j] = x
        state.f4[slot, first + FAST] = x
        state.f4[slot, first + BEFORE] = x
    slow = state.f4[slot, at.baseline + j]
    visits = state.f4[slot, first + VISITS + hour]
    usual = state.f4[slot, first + HOURS + hour] if visits > F4(0.0) else slow
    season = state.f4[slot, first + SEASON]
    season += FAST_MEAN * (abs(x - usual) - season)
    fast = state.f4[slot, first + FAST]
    fast += FAST_MEAN * (x - fast)
    level, change = abs(x - slow), abs(x - state.f4[slot, first + BEFORE])
    slow += max(SLOW_MEAN, F4(1.0) / seen) * (x - slow)
    shift = fast - slow
    out.center[i, j] = state.f4[slot, at.baseline + j]
    state.f4[slot, first + SEEN] = min(seen, F4(1e6))
    state.f4[slot, at.baseline + j] = slow
    state.u2[slot, at.burned + j] = SETTLED
    state.f4[slot, at.evidence + j] = shift
    state.f4[slot, first + FAST] = fast
    state.f4[slot, first + BEFORE] = x
    state.f4[slot, first + SEASON] = season
    state.f4[slot, first + HOURS + hour] = usual + max(SEASON_MEAN, F4(1.0) / (visits + F4(2.0))) * (x - usual)
    state.f4[slot, first + VISITS + hour] = min(visits + F4(1.0), F4(1e6))
    for which in range(STATISTICS):
        value = level if which == 0 else (change if which == 1 else (season if which == 2 else abs(shift)))
        if frame.statistics[which]:
            out.features[i, which * signals + j] = rarity(slot, first, which, value, frame.decay, state)


@part
def is_record(slot: int, signals: int, mean: np.float32, recent: int, state: State) -> bool:
    """Whether `mean` is larger than those of the vehicle's last `recent` readings, among which it then is."""
    ring = state.at.conformal + signals * SIGNAL
    highest = F4(0.0)
    for k in range(ring + 1, ring + 1 + recent):
        highest = max(highest, state.f4[slot, k])
    place = state.i4[slot, ring]
    state.f4[slot, ring + 1 + place] = mean
    state.i4[slot, ring] = (place + 1) % recent
    return bool(mean > highest)


@rare
def conform(  # noqa: PLR0913  # a kernel: arrays in named tuples
    i: int,
    slot: int,
    values: NDArray[np.float32],
    hours: int,
    frame: FrameArrays,
    limits: Limits,
    state: State,
    out: Observed,
) -> int:
    """One accepted and judged reading into its vehicle's past, its features out; answers bits of `note`.

    `hours` are those since 1970, 0 without a clock. A fault, known or not, is learned as any reading is: p-values hold
    of a past that leaves nothing out, and a fault is a small part of it. A signal that began again goes on by itself.
    """
    signals = frame.prior.shape[0]
    at = state.at
    regime = state.u1[slot, REGIME]
    hour = hours % 24 + (24 if (hours // 24 + 3) % 7 >= 5 else 0)
    used = 0
    state.u1[slot, FLAGS] &= np.uint8(255 - PARTIAL)
    serviced = state.u1[slot, MAINTENANCE] > 0
    for j in range(signals):
        filled = state.f4[slot, at.last + j] if limits.previous[j] else limits.fill[j]
        value = filled if out.reason[i, j] == MISSING else values[i, j]
        there = out.reason[i, j] <= MISSING and np.isfinite(value)
        silent = state.u1[slot, at.silent + j]
        unheard = silent + np.uint8(1) if silent < RELEARNING - 1 else silent
        state.u1[slot, at.silent + j] = np.uint8(0) if there else np.uint8(unheard)
        out.center[i, j] = state.f4[slot, at.baseline + j]
        if there and not serviced:
            z = (np.float64(value) - frame.mean[regime, j]) * frame.inv_sd[regime, j]
            take_in(i, slot, j, F4(min(max(z, -LARGEST), LARGEST)), hour, frame, state, out)
            used += 1
    if serviced:
        return IN_MAINTENANCE
    note = IN_FAULT if state.u1[slot, FLAGS] & CONFIRMED else 0
    if used == 0:
        return note
    mean = F4(0.0)
    for column in range(STATISTICS * signals):
        mean += out.features[i, column]
    counted = used * frame.statistics.sum()
    mean /= F4(counted)
    scale = F4(0.0)
    if is_record(slot, signals, mean, frame.recent, state):
        scale = F4(STATISTICS * signals) / F4(counted)
    for column in range(STATISTICS * signals):
        out.features[i, column] *= scale
    return note

"""The second pass over a batch, once the model scored it: threshold, alarms of every kind, learning of the threshold,
episodes, lasting shifts.

Rules of a kernel (each cost measured time): no array views and no allocation, every constant typed, sums in a fixed
order, no fastmath; then the plain Python function behind it (`.py_func`) gives the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import kernel, part, prefetch, rare
from anomaly.engine.baseline import forget
from anomaly.engine.frame import FrameArrays
from anomaly.engine.happen import in_alarm
from anomaly.engine.layout import (
    ANSWERED,
    BEGAN_AGAIN,
    BELIEVED,
    BORN,
    DISMISSED,
    EPISODE_BYTES,
    EXCUSED,
    F4,
    FAULT_EPISODE,
    FLAGS,
    IN_EPISODE,
    IN_FAULT,
    IN_MAINTENANCE,
    IN_PARTIAL,
    LOOK_AHEAD,
    MISSING,
    MOST_UNCONFIRMED,
    MOVED,
    NEVER,
    RETIRED,
    RUN,
    SENSOR_EPISODE,
    SHIFT_START,
    SHIFTED,
    SILENT,
    STIRRED,
    UNSEEN,
    WIDER,
    Episode,
    Observed,
    Policies,
    Readings,
    Settled,
    State,
)
from anomaly.engine.outcome import Change, Kind
from anomaly.engine.silence import limit, speak

OPEN, UPDATE, END = int(Change.OPEN), int(Change.UPDATE), int(Change.CLOSED)
SENSOR, BORN_ILL, FAULT = int(Kind.SENSOR), int(Kind.BORN_ILL), int(Kind.FAULT)
ABRUPT, LASTING_SHIFT = int(Kind.ABRUPT), int(Kind.LASTING_SHIFT)


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
def own_factor(q: np.float32, unconfirmed: int, arm: int, policies: Policies) -> np.float32:
    """What the fleet's threshold is multiplied by for a vehicle with the quantile q, of whose fault episodes so many
    went by themselves and without a confirmed fault: what alarms often for nothing has to show more."""
    factor: np.float32 = min(max(q / policies.q_fleet[arm], policies.low[arm]), policies.high[arm])
    for _ in range(unconfirmed):
        factor *= policies.raised[arm]
    return factor


@rare
def tell(change: int, i: int, kind: int, slot: int, at: Episode, state: State, changes: int, out: Settled) -> int:
    """Write a change of an episode down, as it stands; answers how many changes there are now."""
    start = state.i8[slot, at.start]
    out.change_row[changes] = i
    out.change_kind[changes] = kind
    out.change[changes] = change
    out.change_time[changes, 0] = start
    out.change_time[changes, 1] = state.i8[slot, at.last]
    out.change_time[changes, 2] = state.i8[slot, at.peak] if at.peak >= 0 else start
    out.change_time[changes, 3] = state.i4[slot, at.alarms]
    out.change_time[changes, 4] = start
    out.change_level[changes] = state.f4[slot, at.top] if at.top >= 0 else F4(1.0)
    return changes + 1


@part
def follow(
    at: Episode,
    kind: int,
    hit: bool,
    i: int,
    slot: int,
    ts: int,
    level: np.float32,
    gap: int,
    changes: int,
    state: State,
    out: Settled,
) -> int:
    """One episode of one vehicle at one reading; answers how many changes there are now. Where none is open, the place
    of its start has that of its onset (see `rise`)."""
    change = 0
    onset = state.i8[slot, at.start]
    if hit:
        if state.i4[slot, at.alarms] == 0:
            change = OPEN
            state.i8[slot, at.start] = ts
            if at.top >= 0:
                state.f4[slot, at.top] = F4(-1.0)
        state.i8[slot, at.last] = ts
        state.i4[slot, at.alarms] += 1
        state.u2[slot, at.gap] = 0
        if at.top >= 0 and level > state.f4[slot, at.top]:
            state.f4[slot, at.top] = level
            state.i8[slot, at.peak] = ts
            change = UPDATE if change == 0 else change
    elif state.i4[slot, at.alarms] > 0:
        state.u2[slot, at.gap] += 1
        if state.u2[slot, at.gap] >= gap:
            change = END
    if change > 0:
        changes = tell(change, i, kind, slot, at, state, changes, out)
    if change == OPEN and kind == FAULT and onset != NEVER:
        out.change_time[changes - 1, 4] = onset
    if change == END:
        state.i4[slot, at.alarms] = 0
        state.i8[slot, at.start] = NEVER
    return changes


@part
def rise(slot: int, ts: int, above: bool, state: State) -> None:
    """Since when the score has been above what is usual for the vehicle without a break; no episode may be open, whose
    start has the same place."""
    if not above:
        state.i8[slot, FAULT_EPISODE.start] = NEVER
    elif state.i8[slot, FAULT_EPISODE.start] == NEVER:
        state.i8[slot, FAULT_EPISODE.start] = ts


@rare
def shift(i: int, slot: int, frame: FrameArrays, state: State, changes: int, out: Settled) -> int:
    """The vehicle has been in alarm for so long that this is how it is now: its episode ends, another alert opens that
    waits for an answer, and what is normal moves by the evidence gathered.

    That is most of a step, so that a large one may take two shifts, and never more than there is: wear goes on, and
    alarms again.
    """
    for j in range(frame.prior.shape[0]):
        state.f4[slot, state.at.baseline + j] += state.f4[slot, state.at.evidence + j]
        forget(slot, j, state)
    shifted = state.u1[slot, FLAGS] & SHIFTED
    if shifted == 0:
        state.i8[slot, SHIFT_START] = state.i8[slot, FAULT_EPISODE.start]
    changes = tell(END, i, FAULT, slot, FAULT_EPISODE, state, changes, out)
    changes = tell(UPDATE if shifted else OPEN, i, LASTING_SHIFT, slot, FAULT_EPISODE, state, changes, out)
    out.change_time[changes - 1, 0] = out.change_time[changes - 1, 4] = state.i8[slot, SHIFT_START]
    state.i4[slot, FAULT_EPISODE.alarms] = 0
    state.i8[slot, FAULT_EPISODE.start] = NEVER
    state.u1[slot, RUN] = 0
    state.u1[slot, FLAGS] |= np.uint8(SHIFTED | STIRRED)
    return changes


@rare
def answer(i: int, slot: int, ts: int, state: State, changes: int, out: Settled) -> int:
    """A lasting shift that waited for it is answered."""
    if state.u1[slot, FLAGS] & SHIFTED == 0:
        return changes
    changes = tell(END, i, LASTING_SHIFT, slot, FAULT_EPISODE, state, changes, out)
    out.change_time[changes - 1, 0] = out.change_time[changes - 1, 4] = state.i8[slot, SHIFT_START]
    out.change_time[changes - 1, 1] = ts
    out.change_time[changes - 1, 2] = state.i8[slot, SHIFT_START]
    state.u1[slot, FLAGS] &= np.uint8(255 - SHIFTED)
    return changes


@part
def main_episode(
    i: int, slot: int, ts: int, kind: int, level: np.float32, gap: int, changes: int, state: State, out: Settled
) -> int:
    """The episode of kind fault, or in burn-in of kind born_ill, which share a place; `kind` 0: no alarm of either."""
    born = state.u1[slot, FLAGS] & BORN > 0
    running = BORN_ILL if born else FAULT
    if kind > 0 and kind != running and state.i4[slot, FAULT_EPISODE.alarms] > 0:
        changes = tell(END, i, running, slot, FAULT_EPISODE, state, changes, out)
        state.i4[slot, FAULT_EPISODE.alarms] = 0
        state.i8[slot, FAULT_EPISODE.start] = NEVER
    if kind > 0:
        running = kind
        state.u1[slot, FLAGS] &= np.uint8(255 - BORN)
        state.u1[slot, FLAGS] |= np.uint8(BORN if kind == BORN_ILL else 0)
    return follow(FAULT_EPISODE, running, kind > 0, i, slot, ts, level, gap, changes, state, out)


@kernel
def settle(
    readings: Readings,
    rows: tuple[int, int],
    scores: NDArray[np.float32],
    abrupt_scores: NDArray[np.float32],
    arms: NDArray[np.int16],
    rules: tuple[int, int],
    frame: FrameArrays,
    observed: Observed,
    state: State,
    quantiles: NDArray[np.float32],
    policies: Policies,
    out: Settled,
) -> int:
    """Second pass over the rows [first, end). `rules` are the readings without alarm that end an episode, and those
    in alarm, one after the other, that make a lasting shift (0: none does).

    Answers the first row whose features were made before a decision changed what its vehicle's features are, -1: none.
    Of such a part all has to be taken back, and made again up to that row and from there.
    """
    first, end = rows
    gap, lasting = rules
    changes, silences = out.counts[0], out.counts[1]
    stale = -1
    base = state.at.abrupt
    quick = Episode(base // 8, base // 8 + 1, base // 8 + 2, base // 4 + 6, base // 4 + 7, base // 2 + 16)
    has_quick = state.at.record - state.at.abrupt >= EPISODE_BYTES
    for i in range(first, end):
        if i + LOOK_AHEAD < end:
            ahead = readings.slots[i + LOOK_AHEAD]
            prefetch(arms, ahead * 2)
            prefetch(quantiles, (policies.model[0] * quantiles.shape[1] + ahead) * 4)
            prefetch(state.raw, ahead * state.at.record)
        if observed.status[i] > 1:
            continue
        slot = readings.slots[i]
        note = observed.note[i]
        opened = state.i4[slot, FAULT_EPISODE.alarms] > 0 or (has_quick and state.i4[slot, quick.alarms] > 0)
        foreseen = not note & IN_PARTIAL or opened == (note & IN_EPISODE > 0)
        if note & DISMISSED:
            foreseen = foreseen and in_alarm(slot, observed.until[i], state) == (note & MOVED > 0)
        if state.u1[slot, FLAGS] & STIRRED or not foreseen:
            stale = i
            break
        ts = readings.ts[i]
        arm = arms[slot]
        model = policies.model[arm]
        q = quantiles[model, slot]
        score, threshold = scores[i], policies.k[arm]
        warm = observed.status[i] == 0
        judged = note & IN_MAINTENANCE == 0
        running = state.i4[slot, FAULT_EPISODE.alarms] > 0 and state.u1[slot, FLAGS] & BORN == 0
        out.unconfirmed[i] = 0 if note & BELIEVED else state.u1[slot, state.at.unconfirmed]
        if warm:
            threshold *= own_factor(q, int(out.unconfirmed[i]), arm, policies)
        wider = WIDER if note & UNSEEN else F4(1.0)
        threshold *= wider
        born_line, abrupt_line = policies.k_born_ill[arm] * wider, policies.k_abrupt[arm] * wider
        fault = warm and judged and score > threshold
        ill = not warm and judged and observed.ill[i] > born_line
        abrupt = has_quick and warm and judged and abrupt_scores[i] > abrupt_line
        sensor = False
        for j in range(observed.reason.shape[1]):
            sensor = sensor or observed.reason[i, j] > MISSING
        sensor = sensor and judged
        level = score / threshold
        if state.i4[slot, FAULT_EPISODE.alarms] == 0:
            rise(slot, ts, warm and judged and score > q, state)
        calm = not (opened or fault or abrupt or note & (IN_FAULT | UNSEEN) > 0)
        if warm and judged and (calm or policies.gate[arm] == np.inf):
            quantiles[model, slot] = adapt(q, score, arm, policies)
        if note & ANSWERED:
            changes = answer(i, slot, ts, state, changes, out)
        if note & BEGAN_AGAIN:
            state.u1[slot, RUN] = 0
        times = policies.k_silence[arm]
        if judged and times < np.inf and observed.since[i] != NEVER and observed.rhythm[i] > F4(0.0):
            start = limit(observed.since[i], observed.rhythm[i], times)
            if ts > start or state.u1[slot, FLAGS] & (SILENT | RETIRED):
                silences = speak(i, slot, ts, start, note & EXCUSED > 0, state, silences, out)
        shifted = False
        kind = 0
        if judged:
            kind = FAULT if fault else (BORN_ILL if ill else 0)
            own = observed.ill[i] / born_line if ill else level
            changes = main_episode(i, slot, ts, kind, own, gap, changes, state, out)
            if has_quick:
                own = abrupt_scores[i] / abrupt_line
                changes = follow(quick, ABRUPT, abrupt, i, slot, ts, own, gap, changes, state, out)
            changes = follow(SENSOR_EPISODE, SENSOR, sensor, i, slot, ts, level, gap, changes, state, out)
        out.start[i], out.nth[i] = 0, 0
        if kind > 0:
            out.start[i] = state.i8[slot, FAULT_EPISODE.start]
            out.nth[i] = state.i4[slot, FAULT_EPISODE.alarms]
        elif abrupt:
            out.start[i] = state.i8[slot, quick.start]
            out.nth[i] = state.i4[slot, quick.alarms]
        elif sensor:
            out.start[i] = state.i8[slot, SENSOR_EPISODE.start]
            out.nth[i] = state.i4[slot, SENSOR_EPISODE.alarms]
        run = min(int(state.u1[slot, RUN]) + 1, 255) if fault else 0
        state.u1[slot, RUN] = np.uint8(run)
        if run >= lasting > 0 and note & IN_FAULT == 0:
            shifted = True
            changes = shift(i, slot, frame, state, changes, out)
        went = running and not shifted and note & IN_FAULT == 0 and state.i4[slot, FAULT_EPISODE.alarms] == 0
        if went or note & BELIEVED:
            state.u1[slot, state.at.unconfirmed] = np.uint8(min(int(out.unconfirmed[i]) + went, MOST_UNCONFIRMED))
        if ill and observed.ill[i] / born_line > level:
            score, threshold = observed.ill[i], born_line
        if abrupt and abrupt_scores[i] / abrupt_line > level:
            score, threshold = abrupt_scores[i], abrupt_line
        out.score[i] = score
        out.threshold[i] = threshold
        out.level[i] = score / threshold
        acts = (ill << BORN_ILL) | (fault << FAULT) | (abrupt << ABRUPT) | (shifted << LASTING_SHIFT)
        out.kinds[i] = np.uint16((sensor << SENSOR) | acts)
        out.alarm[i] = acts > 0
        out.arm[i] = arm
        out.kind[i] = kind if kind > 0 else (ABRUPT if abrupt else (SENSOR if sensor else 0))
    for i in range(first, end):
        if observed.status[i] <= 1:
            state.u1[readings.slots[i], FLAGS] &= np.uint8(255 - STIRRED)
    out.counts[0], out.counts[1] = changes, silences
    return stale

"""Where everything stands in the arrays that the two passes share: state, readings, results."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

F4 = np.float32
NEVER = np.int64(-(2**63))
CLIP = F4(12.0)
FAST, SLOW = F4(0.3), F4(0.01)  # weights of the two other means of wide features
LOOK_AHEAD = 8  # readings between asking for a record and using it

# A vehicle's record begins with a header; these are columns of the record seen as int64, int32, float32, uint16, uint8.
LAST_TS, RESTARTED, START, LAST, PEAK, SENSOR_START, SENSOR_LAST, SHIFT_START = range(8)
COUNT, HEAD, COHORT, ALARMS, SENSOR_ALARMS = 16, 17, 18, 19, 20
TOP, RHYTHM = 21, 22
GAP, SENSOR_GAP = 46, 47
REGIME, RUN, FLAGS, MAINTENANCE = 96, 97, 98, 99
HEADER_BYTES = 100

# Bits of FLAGS: a fault is confirmed, some signals learn their baseline again, the running episode is of kind born_ill,
# a lasting shift is not answered yet, silence was raised, a decision changed what the vehicle's next features are,
# the vehicle was retired, its first burn-in is over.
CONFIRMED, PARTIAL, BORN, SHIFTED, SILENT, STIRRED, RETIRED, GROWN = 1, 2, 4, 8, 16, 32, 64, 128

# Bits of `Observed.note`: what of a reading's moment the second pass has to know.
IN_MAINTENANCE, IN_FAULT, IN_PARTIAL, BEGAN_AGAIN, ANSWERED, EXCUSED, IN_EPISODE, UNSEEN = 1, 2, 4, 8, 16, 32, 64, 128
DISMISSED, MOVED, BELIEVED = 256, 512, 1024

# Bits of `equal`: equal values in a row, whether the last value was near what was expected, and whether the signal
# jumped alone and is not back yet.
EQUAL, TRACKED, SUSPECT = np.uint16(0x3FFF), np.uint16(0x4000), np.uint16(0x8000)
RELEARNING = 255  # readings since a signal was last seen, where it learns its baseline again
SETTLED = 65_535  # readings of a signal in burn-in, once that is over and the signal was seen in it
BORN_FROM = 10  # the first reading at which a vehicle can be found born ill

# Reasons for a masked value; 0 is a good one.
MISSING, RANGE, STEP, STUCK, DROPOUT, REASONS = 1, 2, 3, 4, 5, 7
STRANGE = 6  # no reason of a value: readings in a regime that training has not seen, counted beside them
WIDER = F4(1.5)  # what the thresholds of such a reading are multiplied by
MOST_UNCONFIRMED = 5  # of a vehicle's fault episodes that ended without a confirmed fault, so many raise its threshold

# What stands in `clock`: event time, vehicles heard, then the reading too far ahead: its slot, time, times in a row;
# and the event time at which silent vehicles are looked for again.
NOW, HEARD, AHEAD_SLOT, AHEAD_TS, AHEAD_RUN, LOOK, CLOCK = 0, 1, 2, 3, 4, 5, 6

# A cohort keeps 10 periods in 241 bins of 0.1 and uses the last 7 closed ones; a reading counts for the open period and
# the 2 after it; of 8 periods the shift is known. In 40 more bins, each an eighth of what is usual, it keeps how large
# the evidence of a signal is, once a vehicle and period, and uses the last 3 closed ones.
PERIODS, BINS, CLOSED, AHEAD, SHIFTS = 10, 241, 7, 2, 8
SIZES, RECENT = 40, 3

# What stands in `calendar`: the open period, the one that it began with, the last one that is merged, the last one that
# was given out, readings that came too late to count; then, for each of WATCHED periods, how many vehicles reached it,
# and how many passed its end.
# What the kernels tell each other is not kept: the row before which `observe` stopped, plus 1 (0: it did not), and the
# shift in use.
OPEN, FIRST, MERGED, TOLD, LATE, REACHED, WATCHED = 0, 1, 2, 3, 4, 5, 16
PASSED = REACHED + WATCHED
KEPT = PASSED + WATCHED
STOPPED, USED, CALENDAR = KEPT, KEPT + 1, KEPT + 2

STATISTICS = 4  # conformal features of a signal
SIGNAL = 112 + 400 * STATISTICS  # float32 columns that they need, as anomaly/engine/conformal.py has them
RING = 1 + 300  # and of a vehicle: a place, and the means of its latest readings

NONE_KNOWN = F4(1e-30)  # the shift of a cohort that is known to do as always
MIN_VEHICLES, MIN_READINGS = 3, 20  # so many vehicles in one period, so many readings in all: else nothing is taken off


class Limits(NamedTuple):
    """What the quality gate knows, one entry a signal; `max_ahead` (0: off) and `grace` in ticks,
    `silent_after` in readings."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    max_step: NDArray[np.float32]
    stuck_after: NDArray[np.int64]
    fill: NDArray[np.float32]
    previous: NDArray[np.bool_]
    silent_after: int
    max_ahead: int
    grace: int


class Places(NamedTuple):
    """Where a record's rows of d values begin: float32 columns (baseline, in burn-in its sums; evidence; last value;
    then, if the features are wide, the fast and the slow mean, the variance and the deviation before; then, if abrupt
    faults are looked for, their quick evidence), uint16 columns (equal values in a row, with two bits of jumps;
    readings in burn-in), a byte column (readings since last seen), the byte that counts alarms which came to nothing
    (there, as it fills a gap); the float32 columns of conformal features, first and end; the byte at which the episode
    of abrupt faults begins; and its bytes in all."""

    baseline: int
    evidence: int
    last: int
    fast: int
    slow: int
    variance: int
    before: int
    quick: int
    equal: int
    burned: int
    silent: int
    unconfirmed: int
    conformal: int
    end: int
    abrupt: int
    record: int

    @classmethod
    def of(cls, signals: int, blocks: int, abrupt: bool = False) -> Places:
        """The places of d signals in a record; versioned with the state's bytes."""
        rows = 7 if blocks == 6 else 3
        first = HEADER_BYTES // 4
        baseline, evidence, last, fast, slow, variance, before = (first + row * signals for row in range(7))
        quick = first + rows * signals
        equal = 2 * (quick + abrupt * signals)
        silent = 2 * (equal + 2 * signals)
        unconfirmed = silent + signals
        conformal = -(-(unconfirmed + 1) // 4)
        end = conformal + (signals * SIGNAL + RING if blocks == STATISTICS else 0)
        last_byte = -(-4 * end // 8) * 8
        record = last_byte + abrupt * EPISODE_BYTES
        rows_at = baseline, evidence, last, fast, slow, variance, before, quick
        return cls(*rows_at, equal, equal + signals, silent, unconfirmed, conformal, end, last_byte, record)


class Episode(NamedTuple):
    """Where one episode of a vehicle stands in its record: columns of int64 (start, last alarm, peak), of int32
    (alarms), of float32 (highest level) and of uint16 (readings since the last alarm). `peak` and `top` are -1 where
    nobody asks for them."""

    start: int
    last: int
    peak: int
    alarms: int
    top: int
    gap: int


FAULT_EPISODE = Episode(START, LAST, PEAK, ALARMS, TOP, GAP)
SENSOR_EPISODE = Episode(SENSOR_START, SENSOR_LAST, -1, SENSOR_ALARMS, -1, SENSOR_GAP)
EPISODE_BYTES, ABRUPT_ALARMS = 40, 6


class State(NamedTuple):
    """All vehicles, one record a slot, as arrays of each type over the same memory: `i8` int64 [cap, record / 8] and so
    on, `raw` uint8 [cap * record]; `at` says what is where; `clock` int64[CLOCK]."""

    i8: NDArray[np.int64]
    i4: NDArray[np.int32]
    f4: NDArray[np.float32]
    u2: NDArray[np.uint16]
    u1: NDArray[np.uint8]
    raw: NDArray[np.uint8]
    at: Places
    clock: NDArray[np.int64]


class Cohorts(NamedTuple):
    """All cohorts: `histogram` [cohorts, PERIODS, d, BINS + SIZES], of closed periods merged, of later ones the own
    part; `vehicles` [cohorts, PERIODS] that are in it; `shift` and `scale` [cohorts, SHIFTS, d], what is taken off
    readings and what evidence is divided by; period p is at p % PERIODS or SHIFTS. `changed` [cohorts]: since the last
    save. `calendar` int64[CALENDAR] is one for all."""

    histogram: NDArray[np.uint32]
    vehicles: NDArray[np.int64]
    shift: NDArray[np.float32]
    scale: NDArray[np.float32]
    changed: NDArray[np.bool_]
    calendar: NDArray[np.int64]

    @property
    def counted(self) -> tuple[NDArray[Any], ...]:
        """What is saved of each cohort."""
        return self.histogram, self.vehicles, self.shift, self.scale


class Readings(NamedTuple):
    """A batch as the kernels take it: `values` [n, d + regime signals], `cohort` -1 where a reading does not say."""

    slots: NDArray[np.int64]
    ts: NDArray[np.int64]
    values: NDArray[np.float32]
    cohort: NDArray[np.int64]


class Waiting(NamedTuple):
    """Events that wait: `ts`, `after` (the position of the vehicle's next one, -1: none), `action`, `signals`
    bool[n, d] that it is about; `until`, the latest begin of an episode that is dismissed, or the last time of a fault;
    `undoes`, the row of `kept` that an undo puts back (-1: none); `kept` float32[n, d], the baseline before a restart
    (NaN: none, or not its signal), and `kept_ts`, the time of that restart (NEVER: there was no baseline)."""

    ts: NDArray[np.int64]
    after: NDArray[np.int32]
    action: NDArray[np.int64]
    until: NDArray[np.int64]
    signals: NDArray[np.bool_]
    undoes: NDArray[np.int64]
    kept: NDArray[np.float32]
    kept_ts: NDArray[np.int64]


class Observed(NamedTuple):
    """What `observe` fills in, one row a reading; `ill` is how far a vehicle in its burn-in is from how vehicles are
    born, `note` bits for the second pass, `until` that of a dismissal here, `since` the vehicle's reading before and
    `rhythm` its usual gap until then; `scratch` [5, d]; `masked` [REASONS] adds up over the batch."""

    status: NDArray[np.uint8]
    features: NDArray[np.float32]
    center: NDArray[np.float32]
    regime: NDArray[np.int16]
    reason: NDArray[np.uint8]
    warm: NDArray[np.float32]
    ill: NDArray[np.float32]
    note: NDArray[np.uint16]
    until: NDArray[np.int64]
    since: NDArray[np.int64]
    rhythm: NDArray[np.float32]
    event_row: NDArray[np.int64]
    event: NDArray[np.int64]
    scratch: NDArray[np.float32]
    masked: NDArray[np.int64]


class Policies(NamedTuple):
    """One entry an arm: the threshold rule as `ThresholdPolicy` states it, and the row of `quantiles` that is its."""

    k: NDArray[np.float32]
    q_fleet: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    up: NDArray[np.float32]
    down: NDArray[np.float32]
    gate: NDArray[np.float32]
    raised: NDArray[np.float32]
    model: NDArray[np.int64]
    k_abrupt: NDArray[np.float32]
    k_born_ill: NDArray[np.float32]
    k_silence: NDArray[np.float32]


class Settled(NamedTuple):
    """What `settle` fills in, one row a reading (`unconfirmed` as it was there); then the changes of episodes, at most
    eight a reading, and those of silences, at most two a reading; the numbers of both are in `counts` int64[2]."""

    score: NDArray[np.float32]
    threshold: NDArray[np.float32]
    level: NDArray[np.float32]
    kind: NDArray[np.uint8]
    kinds: NDArray[np.uint16]
    alarm: NDArray[np.bool_]
    arm: NDArray[np.int16]
    start: NDArray[np.int64]
    nth: NDArray[np.int64]
    unconfirmed: NDArray[np.uint8]
    change_row: NDArray[np.int64]
    change_kind: NDArray[np.uint8]
    change: NDArray[np.uint8]
    change_time: NDArray[np.int64]
    change_level: NDArray[np.float32]
    silence_row: NDArray[np.int64]
    silence: NDArray[np.uint8]
    silence_start: NDArray[np.int64]
    counts: NDArray[np.int64]

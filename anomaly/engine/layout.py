"""Where everything stands in the arrays that the two passes share: state, readings, results."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F4 = np.float32
NEVER = np.int64(-(2**63))
CLIP = F4(12.0)
FAST, SLOW = F4(0.3), F4(0.01)  # weights of the two other means of wide features
LOOK_AHEAD = 4  # readings between asking for a record and using it

# A vehicle's record begins with a header; these are columns of the record seen as int64, int32, float32 and uint16.
# Two episodes follow each other, the fault's and the sensor's: column + NEXT * episode in int64, else + episode.
LAST_TS, RESTARTED, START, LAST, PEAK, NEXT = 0, 1, 2, 3, 4, 3
COUNT, HEAD, COHORT, ALARMS = 16, 17, 18, 19
TOP = 21
REGIME, GAP = 46, 47
HEADER_BYTES = 100

# Reasons for a masked value; 0 is a good one.
MISSING, RANGE, STEP, STUCK, REASONS = 1, 2, 3, 4, 5

# What stands in `clock`: event time, vehicles heard, then the reading too far ahead: its slot, time, times in a row.
NOW, HEARD, AHEAD_SLOT, AHEAD_TS, AHEAD_RUN, CLOCK = 0, 1, 2, 3, 4, 5

PERIODS, BINS, CLOSED = (
    10,
    241,
    7,
)  # a cohort keeps 10 periods in 241 bins of 0.1 and uses the last 7 closed ones
MIN_VEHICLES, MIN_READINGS = 20, 20  # fewer vehicles would take their own faults off


class Limits(NamedTuple):
    """What the quality gate knows, one entry a signal; `max_ahead` in ticks (0: off), `silent_after` in readings."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    max_step: NDArray[np.float32]
    stuck_after: NDArray[np.int64]
    fill: NDArray[np.float32]
    previous: NDArray[np.bool_]
    silent_after: int
    max_ahead: int


class Places(NamedTuple):
    """Where a record's rows of d values begin: float32 columns (baseline, in burn-in its sums; evidence; last value;
    then, if the features are wide, the fast and the slow mean, the variance and the deviation before), uint16 columns
    (equal values in a row; readings in burn-in), a byte column (readings since last seen), and its bytes in all."""

    baseline: int
    evidence: int
    last: int
    fast: int
    slow: int
    variance: int
    before: int
    equal: int
    burned: int
    silent: int
    record: int

    @classmethod
    def of(cls, signals: int, blocks: int) -> Places:
        """The places of d signals in a record; versioned with the state's bytes."""
        rows = 3 if blocks == 1 else 7
        first = HEADER_BYTES // 4
        baseline, evidence, last, fast, slow, variance, before = (first + row * signals for row in range(7))
        equal = 2 * (first + rows * signals)
        silent = 2 * (equal + 2 * signals)
        record = -(-(silent + signals) // 8) * 8
        return cls(baseline, evidence, last, fast, slow, variance, before, equal, equal + signals, silent, record)


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
    """All cohorts: `histogram` [cohorts, PERIODS, d, BINS], `shift` [cohorts, d] in use, `period` [cohorts] it is of,
    `vehicles` [cohorts] in each, `ahead` [cohorts, 2] slot (-1: none) and period of the vehicle that is alone in a
    later one."""

    histogram: NDArray[np.uint32]
    shift: NDArray[np.float32]
    period: NDArray[np.int64]
    vehicles: NDArray[np.int64]
    ahead: NDArray[np.int64]


class Readings(NamedTuple):
    """A batch as the kernels take it: `values` [n, d + regime signals], `cohort` -1 where a reading does not say."""

    slots: NDArray[np.int64]
    ts: NDArray[np.int64]
    values: NDArray[np.float32]
    cohort: NDArray[np.int64]


class Restarts(NamedTuple):
    """Restart events that wait: `ts`, and `after`, the position of the vehicle's next one (-1: none)."""

    ts: NDArray[np.int64]
    after: NDArray[np.int64]


class Observed(NamedTuple):
    """What `observe` fills in, one row a reading; `scratch` [4, d]; `masked` [REASONS] adds up over the batch."""

    status: NDArray[np.uint8]
    features: NDArray[np.float32]
    center: NDArray[np.float32]
    regime: NDArray[np.int16]
    reason: NDArray[np.uint8]
    warm: NDArray[np.float32]
    restart_row: NDArray[np.int64]
    restart: NDArray[np.int64]
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
    model: NDArray[np.int64]


class Settled(NamedTuple):
    """What `settle` fills in, one row a reading; then the changes of episodes, at most four a reading."""

    threshold: NDArray[np.float32]
    level: NDArray[np.float32]
    kinds: NDArray[np.uint16]
    start: NDArray[np.int64]
    nth: NDArray[np.int64]
    change_row: NDArray[np.int64]
    change_kind: NDArray[np.uint8]
    change: NDArray[np.uint8]
    change_time: NDArray[np.int64]
    change_level: NDArray[np.float32]

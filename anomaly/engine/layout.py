"""Where everything stands in the arrays that the two passes share: state, readings, results."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F4 = np.float32
NEVER = np.int64(-(2**63))
CLIP = F4(12.0)

# Columns of the int64 state. Two episodes follow, five columns each: the fault's, then the sensor's.
LAST_TS, COUNT, HEAD, COHORT, REGIME, RESTARTED, EPISODES = 0, 1, 2, 3, 4, 5, 6
OPEN, START, LAST, PEAK, ALARMS, GAP, EPISODE_COLUMNS = 0, 1, 2, 3, 4, 5, 6
INT_COLUMNS = EPISODES + 2 * EPISODE_COLUMNS

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


class State(NamedTuple):
    """All vehicles, one row a slot: `floats` [cap, 3 d + 2] holds the baseline (in burn-in its sums), the evidence and
    the last value of each signal, then the highest level of the two episodes; `counts` [cap, 3 d] equal values in a
    row, readings since last seen, readings in burn-in; `ints` [cap, INT_COLUMNS]; `clock` int64[CLOCK]."""

    floats: NDArray[np.float32]
    counts: NDArray[np.uint16]
    ints: NDArray[np.int64]
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
    """What `observe` fills in, one row a reading; `scratch` [d]; `masked` [REASONS] adds up over the batch."""

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

"""What the engine says about a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from anomaly.engine.cohorts import Merged
from anomaly.engine.events import Event


class Status(IntEnum):
    """What the quality gate said of a reading. Only SCORED and BURN_IN get a decision; all are counted."""

    SCORED = 0
    BURN_IN = 1
    DUPLICATE = 2
    LATE = 3
    AHEAD = 4


class Kind(IntEnum):
    """Kinds of alarm, the most important first; NONE is no alarm at all."""

    NONE = 0
    SENSOR = 1
    BORN_ILL = 2
    COHORT = 3
    FAULT = 4
    ABRUPT = 5
    LASTING_SHIFT = 6
    SILENCE = 7

    @property
    def label(self) -> str:
        """The kind as it is written in decisions and alerts."""
        return self.name.lower() if self else ""


class Change(IntEnum):
    """What became of an episode at a reading."""

    OPEN = 1
    UPDATE = 2
    CLOSED = 3


class Decisions(NamedTuple):
    """One row for each reading that got a decision, in arrival order.

    `row` is its position in the batch, `level` = score / threshold (1.0 is the line), `warm` 0..1 how much of the
    baseline is the vehicle's own, `kind` the most important Kind, `kinds` all of them as bits (1 << Kind),
    `arm` the position in the engine's list of arms, `episode_start` the `ts` at which the running episode of
    `kind` began and `episode_count` its alarms so far (both meaningful where kind is not NONE).
    """

    row: NDArray[np.int64]
    score: NDArray[np.float32]
    threshold: NDArray[np.float32]
    level: NDArray[np.float32]
    warm: NDArray[np.float32]
    alarm: NDArray[np.bool_]
    kind: NDArray[np.uint8]
    kinds: NDArray[np.uint16]
    arm: NDArray[np.int16]
    episode_start: NDArray[np.int64]
    episode_count: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> Decisions:
        """Those of these rows."""
        return Decisions(*(cast(Any, column[rows]) for column in self))

    @classmethod
    def concatenated(cls, parts: Sequence[Decisions]) -> Decisions:
        """Those of all parts, one after the other."""
        columns: Iterable[Sequence[Any]] = zip(*parts, strict=True)
        return cls(*(cast(Any, np.concatenate(column)) for column in columns))


class Episodes(NamedTuple):
    """What changed about episodes in a batch, in arrival order: one row a change (see Change).

    `row` is the reading at which it changed, `start`, `end` and `peak` are times (`end`: the last alarm so far),
    `level` the highest level so far, `alarms` their number so far. `onset` says, where a `fault` opens, since when the
    score had been above what is usual for the vehicle without a break; else it is the start.
    """

    row: NDArray[np.int64]
    kind: NDArray[np.uint8]
    change: NDArray[np.uint8]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    peak: NDArray[np.int64]
    level: NDArray[np.float32]
    alarms: NDArray[np.int64]
    arm: NDArray[np.int16]
    onset: NDArray[np.int64]


NO_EPISODES = Episodes(
    np.zeros(0, np.int64),
    np.zeros(0, np.uint8),
    np.zeros(0, np.uint8),
    np.zeros(0, np.int64),
    np.zeros(0, np.int64),
    np.zeros(0, np.int64),
    np.zeros(0, np.float32),
    np.zeros(0, np.int64),
    np.zeros(0, np.int16),
    np.zeros(0, np.int64),
)


class Evidence(NamedTuple):
    """Why the alarm rows alarm: m rows, one for each position in `row` (positions in the batch, ascending).

    `share` float32[m, signals] sums to 1; `expected` float32[m, signals] in each signal's own unit;
    `regime` int16[m]; `masked` bool[m, signals] is true where the quality gate refused a value.
    """

    row: NDArray[np.int64]
    share: NDArray[np.float32]
    expected: NDArray[np.float32]
    regime: NDArray[np.int16]
    masked: NDArray[np.bool_]


class Applied(NamedTuple):
    """Events that took effect in a batch: `row` of the first reading they apply to, and of a restart `kept`, the
    baseline before it, float32[d] as bytes (none: there was none)."""

    row: NDArray[np.int64]
    events: list[Event]
    kept: list[bytes]


class Shadows(NamedTuple):
    """What the shadow models of arms say: one row a decision of a vehicle that has one.

    `row` is its position in the batch, `alarm` what it would have alarmed for as `fault`: its own threshold learns as
    that of a model that acts. `share` float32[m, signals] has a row for each alarm, in order: each sums to 1.
    """

    row: NDArray[np.int64]
    score: NDArray[np.float32]
    threshold: NDArray[np.float32]
    alarm: NDArray[np.bool_]
    arm: NDArray[np.int16]
    share: NDArray[np.float32]


NO_SHADOWS = Shadows(
    np.zeros(0, np.int64),
    np.zeros(0, np.float32),
    np.zeros(0, np.float32),
    np.zeros(0, np.bool_),
    np.zeros(0, np.int16),
    np.zeros((0, 0), np.float32),
)


class Silences(NamedTuple):
    """What changed about silences in a batch, in order: `row` is the reading after which (`waited`: event time passed
    the vehicle's limit) or at which (it sent one) the `vehicle`'s silence opened or closed (see Change).

    `start` is when it began: the reading before it plus the vehicle's own limit. `end` is when it spoke again, else
    `start`; `arm` is the vehicle's, `limit` how many of its own rhythms may pass.
    """

    row: NDArray[np.int64]
    vehicle: list[str]
    change: NDArray[np.uint8]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    waited: NDArray[np.bool_]
    arm: NDArray[np.int16]
    limit: NDArray[np.float32]


NO_SILENCES = Silences(
    np.zeros(0, np.int64),
    [],
    np.zeros(0, np.uint8),
    np.zeros(0, np.int64),
    np.zeros(0, np.int64),
    np.zeros(0, np.bool_),
    np.zeros(0, np.int16),
    np.zeros(0, np.float32),
)


class Outcome(NamedTuple):
    """All that a batch led to. `status` uint8[n] has one Status a reading, `masked` the counts of masked values.

    `features` float32[n, width] are those that the models were given, a row a reading; `merged` the periods of cohorts
    that were merged since the last one.
    """

    decisions: Decisions
    episodes: Episodes
    evidence: Evidence
    applied: Applied
    status: NDArray[np.uint8]
    masked: dict[str, int]
    silences: Silences = NO_SILENCES
    shadows: Shadows = NO_SHADOWS
    features: NDArray[np.float32] | None = None
    merged: Sequence[Merged] = ()

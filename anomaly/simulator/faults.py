"""Which vehicles fail, of what and when: a hidden severity that rises from 0 to 1 at the failure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.simulator.config import DAY_MS, SimulationConfig, whole_seconds
from anomaly.simulator.physics import Floats
from anomaly.simulator.streams import Purpose, stream

Ints = NDArray[np.int64]

NEVER = np.iinfo(np.int64).max


class FaultKind(NamedTuple):
    """A way to fail: its code, how common it is, and the days from the first trace to the failure."""

    code: str
    weight: float
    shortest_days: float
    longest_days: float


KINDS = (
    FaultKind("coolant_loss", 1.0, 10.0, 55.0),
    FaultKind("battery_fade", 1.2, 14.0, 65.0),
    FaultKind("tyre_leak", 1.2, 1.5, 28.0),
    FaultKind("alternator_wear", 0.9, 4.0, 42.0),
    FaultKind("injector_drift", 1.0, 8.0, 55.0),
    FaultKind("oil_pump_wear", 0.7, 10.0, 55.0),
)
ABRUPT = len(KINDS)
"""The kind of a failure that shows in no signal beforehand."""
CODES = (*(kind.code for kind in KINDS), "breakdown")
FIRST_ONSET, FIRST_FAILURE, LAST_FAILURE = 0.08, 0.2, 0.98
"""Shares of the span between which faults begin and end."""
RETIRED_SHARE = 0.1
"""Share of failed vehicles that are not repaired any more."""


class Faults(NamedTuple):
    """The fate of V vehicles, all [V]: `kind` -1 for those that do not fail, times NEVER where there is none.

    `severity` rises as `((ts - onset) / (failure - onset)) ** shape`. A vehicle is away from `failure` until
    `repaired`. `wheel` 0..3 is the one that leaks.
    """

    kind: Ints
    wheel: Ints
    onset: Ints
    failure: Ints
    repaired: Ints
    shape: Floats

    def severity(self, ts: Ints) -> Floats:
        """Hidden severity [V, T] at the times `ts` [V, T]: 0 before the onset and after the failure."""
        onset, failure = self.onset[:, None], self.failure[:, None]
        ill = (ts >= onset) & (ts < failure)
        lasts = np.maximum(self.failure - self.onset, 1)[:, None].astype(np.float64)
        share = np.where(ill, ts - onset, 0) / lasts
        return np.where(ill, share ** self.shape[:, None], 0.0)

    def away(self, ts: Ints) -> NDArray[np.bool_]:
        """Where [V, T] a vehicle stands broken, is in the workshop, or was retired."""
        return (ts >= self.failure[:, None]) & (ts < self.repaired[:, None])


def strike(seed: int, numbers: range, config: SimulationConfig) -> Faults:
    """Draw the fate of the vehicles `numbers`, each from a stream of its own."""
    u = np.array([stream(seed, Purpose.FAULT, number).random(9) for number in numbers])
    fails = u[:, 0] < config.fault_share
    kind = np.where(u[:, 1] < config.abrupt_share, ABRUPT, _gradual(u[:, 2]))
    span = config.end_ms - config.start_ms
    failure = config.start_ms + whole_seconds((FIRST_FAILURE + (LAST_FAILURE - FIRST_FAILURE) * u[:, 3]) * span)
    onset = np.maximum(
        failure - _duration_ms(kind, u[:, 4]), config.start_ms + whole_seconds(FIRST_ONSET * np.array(span))
    )
    repaired = np.where(u[:, 5] < RETIRED_SHARE, NEVER, failure + whole_seconds((1.0 + 4.0 * u[:, 6]) * DAY_MS))
    return Faults(
        kind=np.where(fails, kind, -1),
        wheel=(u[:, 7] * 4).astype(np.int64),
        onset=np.where(fails, np.where(kind == ABRUPT, failure, onset), NEVER),
        failure=np.where(fails, failure, NEVER),
        repaired=np.where(fails, repaired, NEVER),
        shape=1.0 + 1.5 * u[:, 8],
    )


def _gradual(u: Floats) -> Ints:
    weight = np.cumsum([kind.weight for kind in KINDS])
    return np.searchsorted(weight / weight[-1], u, side="right").astype(np.int64)


def _duration_ms(kind: Ints, u: Floats) -> Ints:
    shortest = np.array([one.shortest_days for one in KINDS] + [0.0])[kind]
    longest = np.array([one.longest_days for one in KINDS] + [0.0])[kind]
    return whole_seconds((shortest + (longest - shortest) * u) * DAY_MS)

"""One vehicle's state for people."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.engine import layout
from anomaly.engine.frame import Frame
from anomaly.engine.model import Scorer
from anomaly.engine.state import VehicleState


class VehicleView(NamedTuple):
    """One vehicle's state for people, lists in the order of the signals: `expected` is the sum of what is usual of the
    fleet in this regime, of what its cohort adds and of what is its own, in the signals' units; `evidence` in healthy
    spreads. `in_maintenance`, `fault_confirmed`: it does not learn; `shift_start`: of a lasting shift without answer;
    `unconfirmed`: fault episodes that ended without a confirmed fault, as many as raise its threshold.
    """

    vehicle: str
    last_ts: int
    readings: int
    warm: float
    regime: int
    expected: list[float]
    fleet: list[float]
    cohort: list[float]
    own: list[float]
    evidence: list[float]
    quantiles: dict[str, float]
    episode_start: int | None
    shift_start: int | None
    in_maintenance: bool
    fault_confirmed: bool
    unconfirmed: int


def view(vehicle: str, slot: int, vehicles: VehicleState, frame: Frame) -> VehicleView:
    """The vehicle in a slot, as it is."""
    state, at, signals = vehicles.arrays, vehicles.arrays.at, len(frame.signals)
    known = frame.arrays()
    count = int(state.i4[slot, layout.COUNT])
    warm = min(1.0, count / frame.burn_in)
    regime = int(state.u1[slot, layout.REGIME])
    learning = state.u1[slot, at.silent : at.silent + signals] == layout.RELEARNING
    own = np.where(learning | (warm < 1.0), 0.0, state.f4[slot, at.baseline : at.baseline + signals] - known.prior)
    sd = 1.0 / known.inv_sd[regime]
    fleet, own = known.mean[regime] + known.prior * sd, own * sd
    cohort = _of_cohort(slot, vehicles, frame)[0] * sd
    flags = int(state.u1[slot, layout.FLAGS])
    return VehicleView(
        vehicle=vehicle,
        last_ts=int(state.i8[slot, layout.LAST_TS]),
        readings=count,
        warm=warm,
        regime=regime,
        expected=(fleet + cohort + own).tolist(),
        fleet=fleet.tolist(),
        cohort=cohort.tolist(),
        own=own.tolist(),
        evidence=state.f4[slot, at.evidence : at.evidence + signals].tolist(),
        quantiles={key: float(vehicles.quantiles[row, slot]) for row, key in enumerate(vehicles.q_fleet)},
        episode_start=int(state.i8[slot, layout.START]) if state.i4[slot, layout.ALARMS] > 0 else None,
        shift_start=int(state.i8[slot, layout.SHIFT_START]) if flags & layout.SHIFTED else None,
        in_maintenance=bool(state.u1[slot, layout.MAINTENANCE] > 0),
        fault_confirmed=bool(flags & layout.CONFIRMED),
        unconfirmed=int(state.u1[slot, at.unconfirmed]),
    )


def _of_cohort(slot: int, vehicles: VehicleState, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the cohort of the vehicle in a slot was doing at its last reading, in healthy spreads, and what evidence of
    its vehicles was divided by."""
    state, signals = vehicles.arrays, len(frame.signals)
    number, last_ts = int(state.i4[slot, layout.COHORT]), int(state.i8[slot, layout.LAST_TS])
    if number < 0:
        return np.zeros(signals, np.float32), np.ones(signals, np.float32)
    return vehicles.cohorts.known(number, last_ts // frame.period)


def shares(slot: int, vehicles: VehicleState, frame: Frame, silent_after: int, scorer: Scorer) -> list[float]:
    """The share of each signal in the score of the vehicle in a slot: by its model where evidence is all that this is
    given, else by the squares of the evidence."""
    state, at, signals = vehicles.arrays, vehicles.arrays.at, len(frame.signals)
    heard = state.u1[slot, at.silent : at.silent + signals] <= silent_after
    evidence = state.f4[slot, at.evidence : at.evidence + signals] * heard
    if frame.features == "evidence":
        features = np.zeros((1, frame.width), np.float32)
        features[0, :signals] = evidence * np.float32(np.sqrt(signals / max(int(heard.sum()), 1)))
        features[0, :signals] /= _of_cohort(slot, vehicles, frame)[1]
        return [float(share) for share in scorer.contributions(features)[0]]
    squares = evidence.astype(np.float64) ** 2
    total = float(squares.sum())
    return (squares / total if total > 0 else np.full(signals, 1.0 / signals)).tolist()

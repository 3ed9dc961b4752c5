"""Which vehicles fail, of what and when: a hidden severity that rises to 1 at the failure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from anomaly.simulator.config import DAY_MS, Kind, SimulationConfig, whole_seconds
from anomaly.simulator.streams import Purpose, stream
from anomaly.simulator.vehicles import Floats, Ints, Vehicles

NEVER = np.iinfo(np.int64).max


class FaultKind(NamedTuple):
    """A way to fail: how common it is, and the days from the first trace to the failure."""

    weight: float
    shortest_days: float
    longest_days: float


KINDS: dict[Kind, FaultKind] = {
    "coolant_loss": FaultKind(1.0, 10.0, 55.0),
    "battery_fade": FaultKind(1.2, 14.0, 65.0),
    "tyre_leak": FaultKind(1.2, 1.5, 28.0),
    "alternator_wear": FaultKind(0.9, 4.0, 42.0),
    "injector_drift": FaultKind(1.0, 8.0, 55.0),
    "oil_pump_wear": FaultKind(0.7, 10.0, 55.0),
    "brake_wear": FaultKind(1.0, 10.0, 60.0),
    "misfire": FaultKind(0.8, 6.0, 40.0),
    "hose_burst": FaultKind(1.0, 0.5, 3.0),
    "breakdown": FaultKind(1.0, 0.0, 0.0),
}
CODES: tuple[Kind, ...] = get_args(Kind)
SUDDEN = (CODES.index("hose_burst"), CODES.index("breakdown"))
"""Kinds with little or no warning: the first is at once as bad as it gets, the second shows in no signal."""
FIRST_ONSET, FIRST_FAILURE, LAST_FAILURE = 0.08, 0.2, 0.98
"""Shares of a window of time between which faults begin and end in it."""
RETIRED_SHARE = 0.1
"""Share of failed vehicles that are not repaired any more."""
DEFECT: Kind = "alternator_wear"
"""What a whole cohort gets where `kinds` names nothing."""
DEFECT_COHORT = (0, 0)
"""Its type and region."""
DEFECT_ONSET, DEFECT_SHARE = 0.3, 0.5
"""When it begins and how long it takes, as shares of the time after the history."""


class Faults(NamedTuple):
    """The fate of V vehicles in the history and after it, all [V, 2] but `wheel` [V], 0..3: the one that leaks.

    `kind` is -1 where there is no fault, its times then NEVER. Severity at t, from `onset` until `failure`, is
    `floor + (1 - floor) * ((t - onset) / (failure - onset)) ** shape`, and 0 at all other times. A vehicle is away from
    `failure` until `repaired`.
    """

    kind: Ints
    onset: Ints
    failure: Ints
    repaired: Ints
    shape: Floats
    floor: Floats
    wheel: Ints

    def severity(self, vehicle: int, slot: int, ts: Ints) -> Floats:
        """Hidden severity, float64[n], of one of a vehicle's two possible faults at the times `ts`, int64[n]."""
        onset, failure = self.onset[vehicle, slot], self.failure[vehicle, slot]
        share = np.clip((ts - onset) / max(failure - onset, 1), 0.0, 1.0)
        floor = self.floor[vehicle, slot]
        risen = floor + (1.0 - floor) * share ** self.shape[vehicle, slot]
        return np.where((ts >= onset) & (ts < failure), risen, 0.0)


def strike(seed: int, numbers: range, vehicles: Vehicles, config: SimulationConfig) -> Faults:
    """Draw the fates of the vehicles `numbers`, each from a stream of its own."""
    u = np.array([stream(seed, Purpose.FAULT, number).random((2, 8)) for number in numbers])
    begin, cut, end = (np.full(len(numbers), t) for t in (config.start_ms, config.train_until_ms, config.end_ms))
    before = _window(u[:, 0], begin, cut, (config.history_faults, config.history_kinds), config)
    before = _without(before, vehicles.newcomer > 0)
    after = _window(u[:, 1], np.maximum(cut, vehicles.first), end, (config.faults, config.kinds), config)
    if config.cohort_defect:
        after = _defect(after, u[:, 1], vehicles, config)
    after = _born_ill(after, u[:, 1], vehicles, config)
    after = _without(after, before.repaired == NEVER, before.kind >= 0)
    return Faults(
        kind=np.stack([before.kind, after.kind], axis=1),
        onset=np.stack([before.onset, after.onset], axis=1),
        failure=np.stack([before.failure, after.failure], axis=1),
        repaired=np.stack([before.repaired, after.repaired], axis=1),
        shape=np.stack([before.shape, after.shape], axis=1),
        floor=np.stack([before.floor, after.floor], axis=1),
        wheel=(u[:, 1, 6] * 4).astype(np.int64),
    )


def _window(u: Floats, begin: Ints, end: Ints, what: tuple[float, Sequence[Kind]], config: SimulationConfig) -> Faults:
    """At most one fault of each vehicle between `begin` and `end`."""
    chance, kinds = what
    kind = _draw(u[:, 1], kinds, config.abrupt)
    span = (end - begin).astype(np.float64)
    failure = begin + whole_seconds((FIRST_FAILURE + (LAST_FAILURE - FIRST_FAILURE) * u[:, 2]) * span)
    onset = np.maximum(failure - _duration_ms(kind, u[:, 3], config), begin + whole_seconds(FIRST_ONSET * span))
    repaired = np.where(u[:, 4] < RETIRED_SHARE, NEVER, failure + whole_seconds((1.0 + 4.0 * u[:, 5]) * DAY_MS))
    sudden = np.isin(kind, SUDDEN)
    struck = Faults(
        kind=kind,
        onset=onset,
        failure=failure,
        repaired=repaired,
        shape=np.where(sudden, 0.0, 1.0 + 1.5 * u[:, 7]),
        floor=np.zeros(len(u)),
        wheel=np.zeros(len(u), np.int64),
    )
    return _without(struck, u[:, 0] >= chance)


def _without(faults: Faults, spared: NDArray[np.bool_], also: NDArray[np.bool_] | bool = True) -> Faults:
    """The same but that the vehicles in both `spared` and `also` do not fail."""
    gone = spared & also
    never = {name: np.where(gone, NEVER, getattr(faults, name)) for name in ("onset", "failure", "repaired")}
    return faults._replace(kind=np.where(gone, -1, faults.kind), **never)


def _draw(u: Floats, kinds: Sequence[Kind], abrupt: float) -> Ints:
    """A kind for each `u`: of `kinds` by their weights, or of all, with `abrupt` of them sudden."""
    weight = np.array([KINDS[code].weight for code in CODES])
    if kinds:
        weight *= [code in kinds for code in CODES]
    else:
        sudden = np.isin(np.arange(len(CODES)), SUDDEN)
        weight = np.where(sudden, abrupt * weight / weight[sudden].sum(), (1 - abrupt) * weight / weight[~sudden].sum())
    edge = np.cumsum(weight)
    return np.searchsorted(edge / edge[-1], u, side="right").astype(np.int64)


def _duration_ms(kind: Ints, u: Floats, config: SimulationConfig) -> Ints:
    shortest = np.array([KINDS[code].shortest_days for code in CODES])[kind]
    longest = np.array([KINDS[code].longest_days for code in CODES])[kind]
    return whole_seconds((shortest + (longest - shortest) * u) * config.duration * DAY_MS)


def _defect(faults: Faults, u: Floats, vehicles: Vehicles, config: SimulationConfig) -> Faults:
    """The same defect for every vehicle of one cohort that was there from the start, some days apart."""
    hit = (vehicles.kind == DEFECT_COHORT[0]) & (vehicles.region == DEFECT_COHORT[1]) & (vehicles.newcomer == 0)
    span = float(config.end_ms - config.train_until_ms)
    kind = CODES.index(config.kinds[0] if config.kinds else DEFECT)
    onset = config.train_until_ms + whole_seconds(DEFECT_ONSET * span + 4.0 * DAY_MS * u[:, 3])
    failure = onset + whole_seconds(DEFECT_SHARE * span + 10.0 * DAY_MS * u[:, 2])
    return faults._replace(
        kind=np.where(hit, kind, faults.kind),
        onset=np.where(hit, onset, faults.onset),
        failure=np.where(hit, failure, faults.failure),
        repaired=np.where(hit, failure + 3 * DAY_MS, faults.repaired),
        shape=np.where(hit, 1.0, faults.shape),
    )


def _born_ill(faults: Faults, u: Floats, vehicles: Vehicles, config: SimulationConfig) -> Faults:
    """Faults that are there at the first reading, at six to nine tenths of their severity."""
    ill = vehicles.newcomer == 2
    kind = _draw(u[:, 1], config.kinds, 0.0)
    rest = (config.end_ms - vehicles.first).astype(np.float64)
    failure = vehicles.first + whole_seconds((FIRST_FAILURE + (LAST_FAILURE - FIRST_FAILURE) * u[:, 2]) * rest)
    return faults._replace(
        kind=np.where(ill, kind, faults.kind),
        onset=np.where(ill, vehicles.first, faults.onset),
        failure=np.where(ill, failure, faults.failure),
        repaired=np.where(ill, failure + 3 * DAY_MS, faults.repaired),
        shape=np.where(ill, 1.0, faults.shape),
        floor=np.where(ill, 0.6 + 0.3 * u[:, 4], faults.floor),
    )

"""Rows that every table has beside the product: what is scored without it, at the same budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.engine.frame import Frame
from anomaly.feedback.history import FAULT, HEALTHY
from training.families import Evidence
from training.families.label import fit_logistic
from training.figures import Decided, headline, vehicle_days
from training.frame import noise_covariance, normalised, shrunk
from training.history import History
from training.matrix import Matrix, build_matrix
from training.suites.case import Case, Played
from training.threshold import choose_k

Floats = NDArray[np.float64]
SMOOTH = 0.1
FORGET, PRIOR_WEIGHT = 1 / 150, 20.0


class Seen(NamedTuple):
    """What a row is given of one part of a case: accepted readings `z` [n, d] (regime z-scores, NaN where missing),
    `evidence` [n, d] as the product gathers it, `codes`, `rank` among the vehicle's readings, `warm`, `health`."""

    z: Floats
    evidence: Floats
    codes: NDArray[np.int64]
    rank: NDArray[np.int64]
    warm: NDArray[np.bool_]
    health: NDArray[np.int8]
    ts: NDArray[np.int64]

    def steps(self) -> Iterator[NDArray[np.int64]]:
        """Rows of the first reading of every vehicle, then those of the second, and so on."""
        order = np.argsort(self.rank, kind="stable")
        edges = np.flatnonzero(np.diff(self.rank[order], prepend=-1))
        return iter(np.split(order, edges[1:]))

    @property
    def vehicles(self) -> int:
        """Room for the state of each vehicle."""
        return int(self.codes.max(initial=-1)) + 1

    @property
    def healthy(self) -> NDArray[np.bool_]:
        """Healthy readings past burn-in."""
        return np.asarray(self.warm & (self.health == HEALTHY))


class Both(NamedTuple):
    """Training and test part of a case under one frame, and who of the past was fitted on."""

    case: Case
    frame: Frame
    past: Seen
    test: Seen


Scored = tuple[Floats, Floats]
"""Scores of the past and of the test readings."""


def look(case: Case, frame: Frame) -> Both:
    """Both parts of a case as rows without the product see them."""
    return Both(case, frame, _seen(case, frame, case.past), _seen(case, frame, case.test))


def _seen(case: Case, frame: Frame, history: History) -> Seen:
    matrix: Matrix = build_matrix(case.fleet, frame, history)
    z = normalised(case.fleet, frame, history.batch.values.astype(np.float64), history.codes)
    kept, signals = matrix.kept, len(frame.signals)
    return Seen(
        z[kept],
        matrix.features[:, :signals].astype(np.float64),
        history.codes[kept],
        matrix.rank,
        matrix.warm,
        history.health[kept],
        history.batch.ts[kept],
    )


def at_budget(both: Both, scored: Scored, budget: float) -> Played:
    """Alarms of the test readings, with the smallest threshold that keeps the budget on the past."""
    past, case, fleet = both.past, both.case, both.case.fleet
    trained_on = case.past.codes_of([*case.split.train, *case.split.validation])
    healthy, order = past.healthy & np.isin(past.codes, trained_on), np.lexsort((past.ts, past.codes))
    days = len(vehicle_days(past.codes[order], past.ts[order], healthy[order], fleet.ticks_per_day))
    lowest = scored[0].min(initial=0.0)
    old, new = ((score - lowest + 1).astype(np.float32) for score in scored)
    k = choose_k(old[healthy], past.codes[healthy], past.rank[healthy], fleet.alerts.gap, budget * days / 1_000)
    validation = headline(_validation(both, old > k), fleet).false_alarms_per_1000_days
    return Played(_decided(both, both.test.warm & (new > k)), new / np.float32(k), validation)


def _validation(both: Both, alarm: NDArray[np.bool_]) -> Decided:
    past, case = both.past, both.case
    own = np.isin(past.codes, case.past.codes_of(case.split.validation))
    return Decided(past.codes, past.ts, past.warm & alarm, past.warm, past.health, []).take(own)


def always(both: Both) -> Played:
    """An alarm at every reading past burn-in."""
    return Played(_decided(both, both.test.warm), np.ones(len(both.test.ts), np.float32))


def _decided(both: Both, alarm: NDArray[np.bool_]) -> Decided:
    seen = both.test
    return Decided(seen.codes, seen.ts, alarm, seen.warm, seen.health, both.case.test.faults)


def random(both: Both) -> Scored:
    """A uniform number for every reading."""
    rng = np.random.default_rng(both.case.seed)
    return rng.random(len(both.past.ts)), rng.random(len(both.test.ts))


def gaussian_frozen(both: Both) -> Scored:
    """One Gaussian a vehicle on regime z-scores, learned in its burn-in and then left alone."""
    return gaussian(both.past, both.frame.burn_in, True), gaussian(both.test, both.frame.burn_in, True)


def gaussian_adapting(both: Both) -> Scored:
    """The same, learning from every reading for ever, with a weight of at least 1/150."""
    return gaussian(both.past, both.frame.burn_in, False), gaussian(both.test, both.frame.burn_in, False)


def gaussian(seen: Seen, burn_in: int, frozen: bool) -> Floats:
    """ln(1 + mean squared z under the vehicle's own mean and variance), smoothed with weight 0.1."""
    shape = (seen.vehicles, seen.z.shape[1])
    mean, variance, count, level = np.zeros(shape), np.ones(shape), np.zeros(shape), np.zeros(shape[0])
    score = np.zeros(len(seen.ts))
    for rank, rows in enumerate(seen.steps()):
        who, x = seen.codes[rows], seen.z[rows]
        there = np.isfinite(x)
        off = np.where(there, x - mean[who], 0.0)
        if rank >= burn_in:
            length = (off**2 / (variance[who] + 1e-3)).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
            level[who] += SMOOTH * (np.log1p(length) - level[who])
            score[rows] = level[who]
        if rank < burn_in or not frozen:
            count[who] += there
            weight = np.where(there, np.maximum(1 / np.maximum(count[who], 1), FORGET), 0.0)
            mean[who] += weight * off
            first = count[who] <= 1
            variance[who] = np.where(first, 1.0, (1 - weight) * (variance[who] + weight * off**2))
    return score


def naive_adaptive(both: Both) -> Scored:
    """Running mean and spread, a vehicle, of the product's own log distance; it learns from every reading.

    The prior is the fleet's (mean of training readings, median of the vehicles' variances) with the weight of 20
    readings; after burn-in a reading weighs max(1/n, 1/150), no gate.
    """
    case, past = both.case, both.past
    fitted = np.isin(past.codes, case.past.codes_of(case.split.train))
    noise = noise_covariance(past.z, past.codes, fitted & (past.health == HEALTHY))
    precision: Floats = np.linalg.inv(shrunk(noise)).astype(np.float64)
    old, new = (_log_distance(seen.evidence, precision) for seen in (past, both.test))
    usual = past.healthy & fitted
    spreads = [old[usual & (past.codes == code)].var() for code in np.unique(past.codes[usual])]
    prior = (float(old[usual].mean()), float(np.median(spreads)))
    return _naive(past, old, prior), _naive(both.test, new, prior)


def _log_distance(evidence: Floats, precision: Floats) -> Floats:
    return np.asarray(0.5 * np.log(np.maximum(np.einsum("ij,jk,ik->i", evidence, precision, evidence), 1e-12)))


def _naive(seen: Seen, values: Floats, prior: tuple[float, float]) -> Floats:
    mean, variance = (np.full(seen.vehicles, value) for value in prior)
    count = np.full(seen.vehicles, PRIOR_WEIGHT)
    score = np.full(len(values), -9.0)
    for step in seen.steps():
        rows = step[seen.warm[step]]
        who, off = seen.codes[rows], values[rows] - mean[seen.codes[rows]]
        score[rows] = off / np.sqrt(variance[who] + 1e-12)
        count[who] += 1
        weight = np.maximum(1 / count[who], FORGET)
        mean[who] += weight * off
        variance[who] = (1 - weight) * (variance[who] + weight * off**2)
    return score


def label_term_alone(both: Both) -> Scored:
    """What confirmed faults looked like, and nothing else: the product's label term, neither lessened nor capped."""
    past, case = both.past, both.case
    signals = past.evidence.shape[1]
    fitted = np.isin(past.codes, case.past.codes_of(case.split.train))
    ill = np.isin(past.codes, [fault.code for fault in case.past.faults])
    faulty = past.warm & (past.health == FAULT)
    evidence = Evidence(
        past.evidence, past.healthy, faulty, past.healthy & ~ill, np.eye(signals), 1.0, signals, case.seed
    )
    chosen = evidence._replace(
        features=evidence.features[fitted], healthy=evidence.healthy[fitted], faulty=evidence.faulty[fitted]
    )
    term = fit_logistic(chosen)
    return term.alone(past.evidence), term.alone(both.test.evidence)


BASELINES: dict[str, Callable[[Both], Scored]] = {
    "random": random,
    "Gaussian, frozen": gaussian_frozen,
    "Gaussian, adapting": gaussian_adapting,
    "naive adaptive": naive_adaptive,
}
"""Rows of a frame without a cohort, which the plain ideas do not know of."""

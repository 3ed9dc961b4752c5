"""Thresholds from the budget: each kind of alarm has its share of the false alarms that a person allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.detectors.onnx import OnnxDetector
from anomaly.engine.cohorts import Merged
from anomaly.engine.engine import Engine
from anomaly.engine.frame import Frame
from anomaly.engine.model import Arm, Checks, Model, ThresholdPolicy
from anomaly.errors import DataError
from anomaly.feedback.history import HEALTHY
from anomaly.fleet import Fleet
from training.cohort_check import cohort_checks
from training.figures import episode_starts, vehicle_days
from training.history import History
from training.matrix import Matrix
from training.threshold import LEAST_K, choose_k

NO_ALARM = 2.0**20
"""A threshold that nothing passes; a power of two, so that a level times it is the score to the last bit."""
ENOUGH_ALLOWED = 20.0
"""Episodes below which their number is too much a matter of chance to move a threshold for."""
WITHIN, REPLAYS = 1.4, 8
"""How far, as a factor, a threshold may be moved by what comes of it when it decides, and how often that is tried."""


class Judged(NamedTuple):
    """The healthy readings that thresholds are set with, of n that were accepted: `warm` past burn-in and `young` in
    it, bool[n]; `codes` int64[n] say whose reading each is; `allowed` are the episodes that the budget has for their
    vehicle-days."""

    matrix: Matrix
    warm: NDArray[np.bool_]
    young: NDArray[np.bool_]
    codes: NDArray[np.int64]
    allowed: float

    @classmethod
    def of(cls, fleet: Fleet, history: History, matrix: Matrix, chosen: NDArray[np.bool_]) -> Judged:
        """Those among the `chosen` rows of the history, bool[n]; DataError where there is none."""
        codes = history.codes[matrix.kept]
        healthy = (history.health == HEALTHY)[matrix.kept] & chosen[matrix.kept]
        if not (healthy & matrix.warm).any():
            raise DataError(
                "none of the vehicles and times that the threshold is set with has a healthy reading past burn-in: "
                "give more vehicles or a longer history, or lower [baseline] burn_in"
            )
        warm = healthy & matrix.warm
        ts = history.batch.ts[matrix.kept]
        order = np.lexsort((ts, codes))
        days = len(vehicle_days(codes[order], ts[order], warm[order], fleet.ticks_per_day))
        return cls(matrix, warm, healthy & ~matrix.warm, codes, fleet.threshold.false_alarms * days / 1_000)


def policy_of(fleet: Fleet) -> ThresholdPolicy:
    """The threshold policy that the fleet file asks for; conformal scores adapt themselves, so theirs is frozen."""
    frozen = fleet.threshold.kind == "frozen" or fleet.model.family == "conformal"
    return ThresholdPolicy.from_adaptation(0.0 if frozen else fleet.threshold.adaptation)


def shares(fleet: Fleet, frame: Frame, cohort: bool) -> dict[str, float]:
    """The part of the budget that each kind of alarm has that is on, `cohort` says whether that one is; `fault` has the
    rest."""
    asked = fleet.threshold.share
    own = {
        "born_ill": asked.born_ill if frame.basis else 0.0,
        "abrupt": asked.abrupt if frame.abrupt_time_constant else 0.0,
        "silence": asked.silence if frame.rhythm else 0.0,
        "cohort": asked.cohort if cohort else 0.0,
    }
    return {**own, "fault": 1.0 - sum(own.values())}


def calibrate(fleet: Fleet, frame: Frame, history: History, judged: Judged, detector: OnnxDetector) -> Model:
    """The model with the thresholds that keep the fleet's budget on the judged readings; it has no name yet."""
    policy = policy_of(fleet)
    scores = detector.score(judged.matrix.features[judged.warm])
    q_fleet = max(float(np.float32(np.quantile(scores, policy.quantile))), LEAST_K)
    model = Model("", "", detector, NO_ALARM, q_fleet, policy, Checks(), detector.abrupt)
    level, _, merged = _replay(fleet, history, model, frame)
    checks, beside = _checks(fleet, frame, history, judged, detector, merged)
    faults = shares(fleet, frame, math.isfinite(checks.cohort))["fault"] * judged.allowed
    k = _k(level[judged.warm] * np.float32(NO_ALARM), fleet, judged, faults)
    return _lived(fleet, frame, history, judged, model._replace(k=k, checks=checks), judged.allowed - beside)


def _checks(
    fleet: Fleet, frame: Frame, history: History, judged: Judged, detector: OnnxDetector, merged: Sequence[Merged]
) -> tuple[Checks, int]:
    """The thresholds of the kinds beside faults, and the false alarms that are of no reading: silences and cohorts."""
    checks, beside = _cohorts(fleet, frame, history, judged.matrix, merged)
    of_kind = shares(fleet, frame, math.isfinite(checks.cohort))
    abrupt, ill, silent = (of_kind[kind] * judged.allowed for kind in ("abrupt", "born_ill", "silence"))
    if detector.abrupt is not None and abrupt > 0:
        quick = detector.abrupt.score(judged.matrix.features[judged.warm])
        checks = checks._replace(abrupt=_k(quick, fleet, judged, abrupt))
    if ill > 0:
        checks = checks._replace(born_ill=_born_ill(judged, len(frame.signals), ill))
    if silent > 0:
        checks = checks._replace(silence=_silence(judged, silent))
        beside += int((_gaps(judged) > checks.silence).sum())
    return checks, beside


def _lived(fleet: Fleet, frame: Frame, history: History, judged: Judged, model: Model, allowed: float) -> Model:
    """The model with the smallest k, among some around its own, that lets at most `allowed` episodes of the judged
    readings pass when it decides itself, or the largest of them: a lasting shift ends what would go on alarming, and
    other kinds of alarm spend little of their parts, so that less is spent than levels alone say. With fewer than
    ENOUGH_ALLOWED the model as it is: they are too few to be counted."""
    if allowed < ENOUGH_ALLOWED or not fleet.alerts.lasting_after:
        return model
    chosen = np.flatnonzero(judged.warm | judged.young)
    own = chosen[np.lexsort((judged.matrix.rank[chosen], judged.codes[chosen]))]
    codes, rank = judged.codes[own], judged.matrix.rank[own]
    low, high = model.k / WITHIN, model.k * WITHIN
    for _ in range(REPLAYS):
        k = float(np.float32(math.sqrt(low * high)))
        _, alarm, _ = _replay(fleet, history, model._replace(k=k), frame)
        if len(episode_starts(codes, rank, alarm[own], fleet.alerts.gap)) > allowed:
            low = k
        else:
            high = k
    return model._replace(k=float(np.float32(high)))


def _k(level: NDArray[np.float32], fleet: Fleet, judged: Judged, allowed: float) -> float:
    codes, rank = judged.codes[judged.warm], judged.matrix.rank[judged.warm]
    return float(np.float32(choose_k(level, codes, rank, fleet.alerts.gap, allowed)))


def _gaps(judged: Judged) -> NDArray[np.float32]:
    """The time before each healthy reading, in the vehicle's own rhythms."""
    return judged.matrix.gap[judged.warm | judged.young]


def _born_ill(judged: Judged, signals: int, allowed: float) -> float:
    """The smallest distance at birth that at most `allowed` of the judged vehicles pass, and no smaller than chance
    lets so large a share of vehicles pass.

    The distance squared, times the signals, is chi-squared for Gaussian vehicles; its quantile is that of Wilson and
    Hilferty (1931).
    """
    ill, codes = judged.matrix.ill[judged.young], judged.codes[judged.young]
    worst = np.zeros(int(codes.max(initial=-1)) + 1)
    np.maximum.at(worst, codes, ill)
    ordered = -np.sort(-worst[np.unique(codes)])
    seen = 1.01 * float(ordered[min(int(allowed), len(ordered) - 1)]) if len(ordered) else 0.0
    chance = min(max(allowed / max(len(ordered), 1), 1e-9), 0.5)
    part = 2.0 / (9.0 * signals)
    by_chance = (1.0 - part + NormalDist().inv_cdf(1.0 - chance) * math.sqrt(part)) ** 1.5
    return float(np.float32(max(seen, by_chance)))


def _silence(judged: Judged, allowed: float) -> float:
    """How many of its own rhythms a vehicle may be silent: the smallest number that at most `allowed` of the healthy
    gaps pass, half as much again where none of them may, and no fewer than two."""
    gaps = -np.sort(-_gaps(judged))
    seen = float(gaps[min(int(allowed), len(gaps) - 1)]) * (1.01 if allowed >= 1 else 1.5)
    return float(np.float32(max(seen, 2.0)))


def _cohorts(
    fleet: Fleet, frame: Frame, history: History, matrix: Matrix, merged: Sequence[Merged]
) -> tuple[Checks, int]:
    """The check on cohorts, judged on everybody, as a cohort needs all its vehicles; and the false alarms it makes."""
    share = fleet.threshold.share.cohort
    if frame.cohort is None or share == 0:
        return Checks(), 0
    everybody = Judged.of(fleet, history, matrix, np.ones(len(history.batch), np.bool_))
    return cohort_checks(history, frame.cohort, merged, share * everybody.allowed)


class _Replay(NamedTuple):
    """Of every accepted reading its score over its threshold and whether it alarms, and the periods of cohorts that
    were merged on the way."""

    level: NDArray[np.float32]
    alarm: NDArray[np.bool_]
    merged: list[Merged]


def _replay(fleet: Fleet, history: History, model: Model, frame: Frame) -> _Replay:
    """The history as the model decides it."""
    engine = Engine(fleet, frame)
    engine.use([Arm("fit", 1.0, model)], lambda _vehicle: 0)
    engine.add_events(history.events)
    levels: list[NDArray[np.float32]] = []
    alarms: list[NDArray[np.bool_]] = []
    merged: list[Merged] = []
    for chunk in history.chunks():
        outcome = engine.decide(chunk)
        levels.append(outcome.decisions.level)
        alarms.append(outcome.decisions.alarm)
        merged += outcome.merged
    return _Replay(np.concatenate(levels), np.concatenate(alarms), merged)

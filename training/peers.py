"""River's own detectors, one clone a vehicle, judged as the product is: same scale, same budget, same figures."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly.detectors.per_vehicle import PerVehicle
from anomaly.engine.frame import Frame
from anomaly.errors import UsageError
from anomaly.feedback.history import HEALTHY
from anomaly.fleet import Fleet
from training.figures import Decided, Figures, headline, vehicle_days
from training.frame import normalised
from training.history import History, Split
from training.matrix import rank_within
from training.tail import fit_tail
from training.threshold import choose_k

PREFIX = "river:"


def backtest_river(fleet: Fleet, frame: Frame, name: str, history: History, split: Split) -> Figures:
    """Score every reading with a clone of `river.anomaly.NAME` a vehicle, then learn from it (prequential).

    Inputs are the regime-normalised signals, from -12..12 spreads to 0..1, a missing one at its middle. Scores become
    nats by the healthy tail, and k keeps the budget, both on the other vehicles; the figures are of the test vehicles
    (without a split: of the validation vehicles, or of the later readings of fewer than five vehicles). Slow: one
    Python call a reading. Raises UsageError for a name that River lacks.
    """
    detector = PerVehicle(_detector(name), max_vehicles=len(history.names))
    scores = _scores(fleet, detector, frame, history)
    codes, health = history.codes, history.health
    rank = rank_within(codes)
    warm = rank >= frame.burn_in
    held_out = split.test or split.validation
    fitted = ~np.isin(codes, history.codes_of(held_out))
    if split.blocked:
        fitted = ~history.after(split.cuts(history))
    healthy = fitted & warm & (health == HEALTHY)
    nats = fit_tail(scores[healthy], f"score of {name}").nats(scores).astype(np.float32)
    order = np.lexsort((history.batch.ts, codes))
    days = len(vehicle_days(codes[order], history.batch.ts[order], healthy[order], fleet.ticks_per_day))
    allowed = fleet.threshold.false_alarms * days / 1_000
    k = choose_k(nats[healthy], codes[healthy], rank[healthy], fleet.alerts.gap, allowed)
    judged, alarm = ~fitted, warm & (nats > k)
    decided = Decided(
        codes[judged],
        history.batch.ts[judged],
        alarm[judged],
        warm[judged],
        health[judged],
        history.of(held_out).faults,
    )
    return headline(decided, fleet)


def _detector(name: str) -> Any:
    import river.anomaly
    from river.base import AnomalyDetector

    known = {
        label: kind
        for label, kind in inspect.getmembers(river.anomaly, inspect.isclass)
        if issubclass(kind, AnomalyDetector) and not inspect.isabstract(kind) and _needs_nothing(kind)
    }
    if name not in known:
        raise UsageError(f"river.anomaly has no detector {name} that needs no argument; there are {', '.join(known)}")
    return known[name]()


def _needs_nothing(kind: type) -> bool:
    parameters = list(inspect.signature(kind).parameters.values())
    return all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)


def _scores(fleet: Fleet, detector: PerVehicle, frame: Frame, history: History) -> NDArray[np.float64]:
    z = normalised(fleet, frame, history.batch.values.astype(np.float64), history.codes)
    inputs = np.where(np.isfinite(z), (z + 12) / 24, 0.5).tolist()
    scores = np.empty(len(inputs))
    for row, (vehicle, values) in enumerate(zip(history.batch.vehicles, inputs, strict=True)):
        x = dict(zip(frame.signals, values, strict=True))
        scores[row] = detector.score_one(vehicle, x)
        detector.learn_one(vehicle, x)
    return scores

"""From a history to a model: frame, evidence through the live engine, family, threshold at the budget."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from anomaly.detectors.onnx import OnnxDetector
from anomaly.engine.engine import Engine
from anomaly.engine.frame import Frame
from anomaly.engine.model import Arm, Model, ThresholdPolicy
from anomaly.errors import DataError, GateError
from anomaly.feedback.history import FAULT, HEALTHY
from anomaly.fleet import Fleet
from training.families import FAMILIES, Evidence, Fitted
from training.figures import Decided, Figures, headline, vehicle_days
from training.frame import fit_frame, noise_covariance, normalised
from training.history import History, Split
from training.threshold import choose_k

Floats = NDArray[np.float64]
PARITY_ROWS = 10_000
PARITY = 1e-5


class Trained(NamedTuple):
    """A model ready to be published, and what is known of it. `figures` are of the validation vehicles."""

    onnx: bytes
    frame: Frame
    k: float
    q_fleet: float
    policy: ThresholdPolicy
    parity: float
    figures: Figures
    alarming_share: float


class Matrix(NamedTuple):
    """What the engine made of a history, one row a reading: `features`, `warm` (past burn-in), `rank` among its
    vehicle's readings; `kept` are the history's rows that were accepted."""

    features: NDArray[np.float32]
    warm: NDArray[np.bool_]
    kept: NDArray[np.int64]
    rank: NDArray[np.int64]


def fit(fleet: Fleet, history: History, split: Split, seed: int, frame: Frame | None = None) -> Trained:
    """Fit on `split.train`, set the threshold as family and label term ask (all vehicles, or `split.validation` alone),
    judge on the latter.

    `frame` keeps an old frame, so that the state of vehicles stays valid; it has the features that the fleet file asks
    for. One BLAS thread and a seed: the same history gives the same bytes. Raises DataError or GateError where no
    usable model comes out.
    """
    if not split.train or not split.validation:
        raise DataError("too few vehicles: at least 2 are needed, one to fit on and one to set the threshold with")
    with threadpool_limits(1):
        train = history.of(split.train)
        if frame is None:
            frame = _frame(fleet, train, seed)
        fitted = FAMILIES[fleet.model.family].fit(_evidence(fleet, frame, train, seed))
        detector = OnnxDetector(fitted.onnx, frame.signals)
        both = history.of([*split.train, *split.validation])
        matrix = build_matrix(fleet, frame, both)
        parity = check_parity(fitted, detector, matrix.features, seed)
        return _calibrate(fleet, both, split, matrix, (fitted, detector, frame, parity))


def build_matrix(fleet: Fleet, frame: Frame, history: History) -> Matrix:
    """The history through the engine that also scores live: the same features, bit for bit."""
    engine = Engine(fleet, frame)
    engine.add_events(history.events)
    observed = [engine.features(chunk) for chunk in history.chunks()]
    status = np.concatenate([part.status for part in observed])
    kept = np.flatnonzero(status <= 1)
    features = np.concatenate([part.features for part in observed])[kept]
    return Matrix(features, status[kept] == 0, kept, rank_within(history.codes[kept]))


def rank_within(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each row among those of its vehicle."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    rank = np.empty(len(codes), np.int64)
    rank[order] = np.arange(len(codes)) - np.searchsorted(ordered, ordered, side="left")
    return rank


def check_parity(fitted: Fitted, detector: OnnxDetector, features: NDArray[np.float32], seed: int) -> float:
    """Largest |onnx - estimator| / max(1, |estimator|) on 10,000 rows, drawn with noise where there are fewer.

    Raises GateError beyond 1e-5: what is served would not be what was fitted.
    """
    rng = np.random.default_rng(seed)
    rows = features[rng.integers(0, len(features), PARITY_ROWS)]
    if len(features) < PARITY_ROWS:
        rows = (rows + rng.normal(0, 0.1, rows.shape) * (rows != 0)).astype(np.float32)
    expected = fitted.score(rows.astype(np.float64))
    error = np.abs(detector.score(rows) - expected) / np.maximum(1.0, np.abs(expected))
    worst = float(error.max())
    if not worst <= PARITY:
        raise GateError(f"the ONNX model differs from the fitted estimator by {worst:.2e}, allowed is {PARITY:.0e}")
    return worst


def check_reach(detector: OnnxDetector, features: NDArray[np.float32], k: float) -> None:
    """GateError where evidence a thousand times as far out, in the same directions, mostly stays below k.

    Such a model would never alarm: a forest's score has a ceiling, and a few odd vehicles can lift k above it.
    """
    reached = float(np.mean(detector.score(features[:: max(1, len(features) // PARITY_ROWS)] * np.float32(1_000)) > k))
    if reached < 0.5:
        raise GateError(
            f"the threshold {k:.2f} is above what the model can score: of readings a thousand times as far out, "
            f"{reached:.0%} would alarm; give more vehicles, raise [threshold] false_alarms, or take "
            "[model] family = `distance`"
        )


def policy_of(fleet: Fleet) -> ThresholdPolicy:
    """The threshold policy that the fleet file asks for."""
    return ThresholdPolicy.from_adaptation(0.0 if fleet.threshold.kind == "frozen" else fleet.threshold.adaptation)


def _frame(fleet: Fleet, train: History, seed: int) -> Frame:
    healthy = train.health == HEALTHY
    return fit_frame(fleet, train.batch.values.astype(np.float64), train.codes, healthy, seed)


def _evidence(fleet: Fleet, frame: Frame, train: History, seed: int) -> Evidence:
    matrix = build_matrix(fleet, frame, train)
    health = train.health[matrix.kept]
    ill = np.isin(train.codes, [fault.code for fault in train.faults])[matrix.kept]
    healthy = (health == HEALTHY) & matrix.warm
    if healthy.sum() < 10 * frame.blocks * len(frame.signals):
        raise DataError(
            f"only {int(healthy.sum())} healthy readings come after the burn-in of {frame.burn_in}; "
            "give a longer history, or lower [baseline] burn_in"
        )
    z = normalised(fleet, frame, train.batch.values.astype(np.float64), train.codes)
    return Evidence(
        features=matrix.features.astype(np.float64),
        healthy=healthy,
        late=(health != HEALTHY) & (health <= FAULT) & ill & matrix.warm,
        noise=noise_covariance(z, train.codes, train.health == HEALTHY),
        signals=len(frame.signals),
        seed=seed,
        blocks=frame.blocks,
        label_term=fleet.model.label_term,
    )


def _calibrate(
    fleet: Fleet, both: History, split: Split, matrix: Matrix, made: tuple[Fitted, OnnxDetector, Frame, float]
) -> Trained:
    fitted, detector, frame, parity = made
    policy = policy_of(fleet)
    codes, health = both.codes[matrix.kept], both.health[matrix.kept]
    judged = np.isin(codes, [code for code, name in enumerate(both.names) if name in set(split.validation)])
    healthy = (health == HEALTHY) & matrix.warm
    if "validation" in (FAMILIES[fleet.model.family].threshold_from, fitted.threshold_from):
        healthy &= judged
        if not healthy.any():
            raise DataError("no validation vehicle has a healthy reading past its burn-in: give more vehicles")
    scores = detector.score(matrix.features[healthy])
    q_fleet = float(np.float32(np.quantile(scores, policy.quantile)))
    level = _levels(fleet, both, Model("", "", detector, 1.0, q_fleet, policy), frame)
    order = np.lexsort((both.batch.ts[matrix.kept], codes))
    days = len(vehicle_days(codes[order], both.batch.ts[matrix.kept][order], healthy[order], fleet.ticks_per_day))
    allowed = fleet.threshold.false_alarms * days / 1_000
    k = choose_k(level[healthy], codes[healthy], matrix.rank[healthy], fleet.alerts.gap, allowed)
    check_reach(detector, matrix.features[matrix.warm], k)
    alarm = matrix.warm & (level > k)
    chosen = both.of(split.validation)
    past = Decided(
        codes[judged],
        both.batch.ts[matrix.kept][judged],
        alarm[judged],
        matrix.warm[judged],
        health[judged],
        chosen.faults,
    )
    share = float(alarm.sum() / max(matrix.warm.sum(), 1))
    return Trained(fitted.onnx, frame, float(np.float32(k)), q_fleet, policy, parity, headline(past, fleet), share)


def _levels(fleet: Fleet, history: History, model: Model, frame: Frame) -> NDArray[np.float32]:
    """Score over the vehicle's own factor of the threshold, for every accepted reading."""
    engine = Engine(fleet, frame)
    engine.use([Arm("fit", 1.0, model)], lambda _vehicle: 0)
    engine.add_events(history.events)
    return np.concatenate([engine.decide(chunk).decisions.level for chunk in history.chunks()])

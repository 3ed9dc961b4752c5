"""From a history to a model: frame, evidence through the live engine, family, threshold at the budget."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from anomaly.detectors.onnx import OnnxDetector
from anomaly.engine.frame import Frame
from anomaly.engine.model import Checks, ThresholdPolicy
from anomaly.errors import DataError, GateError
from anomaly.feedback.history import FAULT, HEALTHY
from anomaly.fleet import Fleet
from training.backtest import backtest
from training.calibrate import Judged, calibrate
from training.families import FAMILIES, Evidence, Fitted
from training.families.abrupt import add_abrupt
from training.figures import Figures, headline
from training.frame import fit_frame, noise_covariance, normalised, usual_evidence, usual_gap
from training.history import History, Split
from training.matrix import Matrix, build_matrix

Floats = NDArray[np.float64]
PARITY_ROWS = 10_000
PARITY = 1e-5


class Tried(NamedTuple):
    """A family on the validation vehicles: its figures there, or why training refused it."""

    family: str
    figures: Figures | None
    refused: str = ""


class Choice(NamedTuple):
    """Why `auto` took a family, in a sentence without its full stop, and what it tried."""

    why: str
    tried: list[Tried]


class Trained(NamedTuple):
    """A model ready to be published, and what is known of it. `figures` are of the validation vehicles, or of the later
    readings of a split into blocks of time; `choice` is there where `auto` chose the `family`."""

    onnx: bytes
    frame: Frame
    k: float
    q_fleet: float
    policy: ThresholdPolicy
    parity: float
    checks: Checks
    figures: Figures
    alarming_share: float
    family: str
    choice: Choice | None = None


def fit(fleet: Fleet, history: History, split: Split, seed: int, frame: Frame | None = None) -> Trained:
    """Fit on `split.train`, set the threshold as family and label term ask (both, or `split.validation` alone), judge
    on the latter. A split into blocks of time is fitted on each vehicle's earlier readings, and its threshold is set
    and judged on the later ones. The engine is given all vehicles of the history, as it would be live: of those that
    are in neither part nothing is learned but what their cohorts did.

    `frame` keeps an old frame, so that the state of vehicles stays valid; it has the features that the fleet file asks
    for. One BLAS thread and a seed: the same history gives the same bytes. Raises DataError or GateError where no
    usable model comes out.
    """
    if not split.train or not split.validation:
        raise DataError("too few vehicles: at least 2 are needed, one to fit on and one to set the threshold with")
    with threadpool_limits(1):
        cuts = split.cuts(history)
        later = history.after(cuts)
        both = np.isin(history.codes, history.codes_of([*split.train, *split.validation]))
        if frame is None:
            frame = _frame(fleet, history, both & ~later, seed)
        matrix = build_matrix(fleet, frame, history)
        fitted = _fitted(fleet, frame, _evidence(fleet, frame, history, matrix, both & ~later, seed))
        detector = OnnxDetector(fitted.onnx, frame.signals)
        parity = check_parity(fitted, detector, matrix.features[both[matrix.kept]], seed)
        source = {FAMILIES[fleet.model.family].threshold_from, fitted.threshold_from}
        everybody = source == {"all"} and not split.blocked
        judged = Judged.of(fleet, history, matrix, both if everybody else later)
        model = calibrate(fleet, frame, history, judged, detector)
        check_reach(detector, matrix.features[both[matrix.kept] & matrix.warm], model.k)
        past = backtest(fleet, frame, model, history).decided.of(history.codes_of(split.validation))
        if split.blocked:
            past = past.after(cuts)
        share = float(past.alarm.mean()) if len(past.alarm) else 0.0
        facts = (parity, model.checks, headline(past, fleet), share, fleet.model.family)
        return Trained(fitted.onnx, frame, model.k, model.q_fleet, model.policy, *facts)


def _fitted(fleet: Fleet, frame: Frame, evidence: Evidence) -> Fitted:
    """The family on what it looks at, and the second channel beside it, if abrupt faults are looked for."""
    quick, main = evidence.features[:, frame.quick :], evidence.features[:, : frame.quick]
    evidence = evidence._replace(features=main)
    fitted = FAMILIES[fleet.model.family].fit(evidence)
    if not frame.abrupt_time_constant:
        return fitted
    columns, score = frame.quick, fitted.score
    onnx = add_abrupt(fitted.onnx, quick, evidence)
    return fitted._replace(onnx=onnx, score=lambda features: score(features[:, :columns]))


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

    Such a model would never alarm: a forest's score has a ceiling, and a few odd vehicles can lift k above it. Rows
    without any evidence say nothing.
    """
    told = features[(features != 0).any(axis=1)]
    reached = float(np.mean(detector.score(told[:: max(1, len(told) // PARITY_ROWS)] * np.float32(1_000)) > k))
    if reached < 0.5:
        raise GateError(
            f"the threshold {k:.2f} is above what the model can score: of readings a thousand times as far out, "
            f"{reached:.0%} would alarm; give more vehicles, raise [threshold] false_alarms, or take "
            "[model] family = `distance`"
        )


def _frame(fleet: Fleet, history: History, chosen: NDArray[np.bool_], seed: int) -> Frame:
    """The frame of the `chosen` readings, bool[n]."""
    train = history.rows(chosen)
    healthy = train.health == HEALTHY
    clock = fleet.fleet.time_unit != "cycles" and fleet.threshold.share.silence > 0
    rhythm = usual_gap(train.codes, train.batch.ts) if clock else 0.0
    frame = fit_frame(fleet, train.batch.values.astype(np.float64), train.codes, healthy, seed, rhythm)
    if frame.cohort is None:
        return frame
    matrix = build_matrix(fleet, frame, history)
    gathered = chosen[matrix.kept] & matrix.warm & (matrix.rank >= frame.burn_in + 2 * frame.time_constant)
    return msgspec.structs.replace(frame, usual=usual_evidence(frame, matrix.features[gathered]))


def _evidence(
    fleet: Fleet, frame: Frame, history: History, matrix: Matrix, chosen: NDArray[np.bool_], seed: int
) -> Evidence:
    """What the family looks at of the `chosen` readings, bool[n]."""
    own = chosen[matrix.kept]
    kept, warm = matrix.kept[own], matrix.warm[own]
    health = history.health[kept]
    ill = np.isin(history.codes[kept], [fault.code for fault in history.faults])
    healthy = (health == HEALTHY) & warm
    if healthy.sum() < 10 * frame.blocks * len(frame.signals):
        raise DataError(
            f"only {int(healthy.sum())} healthy readings come after the burn-in of {frame.burn_in}; "
            "give a longer history, or lower [baseline] burn_in"
        )
    train = history.rows(chosen)
    z = normalised(fleet, frame, train.batch.values.astype(np.float64), train.codes)
    return Evidence(
        features=matrix.features[own].astype(np.float64),
        healthy=healthy,
        faultless=healthy & ~ill,
        faulty=(health == FAULT) & warm,
        noise=noise_covariance(z, train.codes, train.health == HEALTHY),
        weight=float(frame.arrays().weight),
        signals=len(frame.signals),
        seed=seed,
        blocks=frame.blocks,
        label_term=fleet.model.label_term,
    )

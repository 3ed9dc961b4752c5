"""Why the rows that alarm do: shares of the signals, what was expected of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anomaly.engine import arrays, layout
from anomaly.engine.frame import FrameArrays
from anomaly.engine.layout import Observed
from anomaly.engine.model import Arm, Floats
from anomaly.engine.outcome import Decisions, Evidence, Kind


def evidence(decisions: Decisions, observed: Observed, arms: Sequence[Arm], frame: FrameArrays) -> Evidence:
    """Shares of the signals where something is wrong: the model's for a fault, those of the baseline's distance for a
    vehicle born ill, the masked ones for a sensor."""
    signals = len(frame.prior)
    wrong = np.flatnonzero(decisions.kind)
    rows = decisions.row[wrong]
    if not len(wrong):
        return arrays.no_evidence(signals)
    kind = decisions.kind[wrong]
    share = np.zeros((len(rows), signals), np.float32)
    for position, arm in enumerate(arms):
        of_arm = decisions.arm[wrong] == position
        for about, scorer in ((Kind.FAULT, arm.model.scorer), (Kind.ABRUPT, arm.model.abrupt)):
            own = np.flatnonzero((kind == about) & of_arm)
            if len(own) and scorer is not None:
                share[own] = scorer.contributions(observed.features[rows[own]])
    born = kind == Kind.BORN_ILL
    share[born] = _squares(observed.features[rows[born]], signals)
    masked = observed.reason[rows] > layout.MISSING
    sensor = kind == Kind.SENSOR
    refused = masked[sensor].astype(np.float32)
    share[sensor] = refused / np.maximum(refused.sum(axis=1, keepdims=True), np.float32(1))
    regime = observed.regime[rows]
    expected = frame.mean[regime] + observed.center[rows] / frame.inv_sd[regime]
    return Evidence(rows, share, expected.astype(np.float32), regime, masked)


def _squares(features: Floats, signals: int) -> NDArray[np.float32]:
    """In burn-in the evidence is against the fleet's prior: its squares, as shares."""
    squares = features[:, :signals] ** 2
    return np.asarray(squares / np.maximum(squares.sum(axis=1, keepdims=True), np.float32(1e-12)))

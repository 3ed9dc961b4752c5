"""What training and backtest make of histories that are small, odd or wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anomaly import settings
from anomaly.detectors.onnx import OnnxDetector
from anomaly.engine.model import Model
from anomaly.errors import DataError
from anomaly.fleet import Fleet
from anomaly.telemetry.records import Label
from tests.training.test_fit import FLEET, last_cycles, wearing
from training.backtest import Backtest, backtest
from training.cli.backtest import _masked
from training.fit import Trained, fit
from training.history import History, make_history, split_vehicles

FLEET_FILE = settings.parse(FLEET, Fleet, "fleet.toml")
UNLABELLED = settings.parse(FLEET.replace("run_to_failure = true", ""), Fleet, "fleet.toml")


def changed(history: History, rows: np.ndarray, column: int, value: float) -> History:
    """The history with other values in one column."""
    values = history.batch.values.copy()
    values[rows, column] = value
    return history._replace(batch=replace(history.batch, values=values))


def trained(history: History, fleet: Fleet = FLEET_FILE) -> Trained:
    """`train` on all of its vehicles."""
    return fit(fleet, history, split_vehicles(history.names, 0, None), 0)


def judged(made: Trained, history: History, fleet: Fleet = FLEET_FILE) -> Backtest:
    """`backtest` of what was trained."""
    model = Model("m/1", "m", OnnxDetector(made.onnx, made.frame.signals), *made[2:5], made.checks)
    return backtest(fleet, made.frame, model, history)


def test_a_vehicle_of_three_readings_is_scored_and_never_warm() -> None:
    """It has a decision for each reading, no normal of its own and no alarm; the others are as they were."""
    history = wearing()
    few = (history.codes != 0) | (history.batch.ts < 3)
    made = trained(history.rows(few))
    decided = judged(made, history.rows(few)).decided
    assert (decided.codes == 0).sum() == 3
    assert not decided.warm[decided.codes == 0].any()
    assert not decided.alarm[decided.codes == 0].any()


def test_vehicles_of_three_readings_each_are_refused_with_what_to_do() -> None:
    """There is nothing to learn from past a burn-in."""
    history = wearing()
    with pytest.raises(DataError, match=r"lower .baseline. burn_in"):
        trained(history.rows(history.batch.ts < 3))


def test_a_constant_signal_is_fitted_and_its_first_change_is_seen() -> None:
    """A signal that never moved in training has no spread to measure by, and is not blind for that: a jump of it alone
    is its sensor's fault."""
    history = changed(wearing(), np.arange(len(wearing().batch)), 2, 7.0)
    made = trained(history)
    late = (history.codes == 3) & (history.batch.ts > 60)
    moved, still = judged(made, changed(history, late, 2, 60.0)).masked, judged(made, history).masked
    assert moved["step"] > still["step"]


def test_a_signal_without_any_value_is_named() -> None:
    """It cannot be fitted: the person is told which to take out."""
    history = wearing()
    with pytest.raises(DataError, match="no healthy reading has a value of b; take it out of the fleet file"):
        trained(changed(history, np.arange(len(history.batch)), 1, np.nan))


def test_a_regime_that_training_has_not_seen_is_counted_and_said() -> None:
    """Readings far from every regime of training are judged by wider thresholds, and the backtest says how many."""
    history = wearing()
    made = trained(history)
    load = history.batch.values[:, 3].copy()
    strange = (history.codes == 5) & (history.batch.ts >= 100)
    result = judged(made, changed(history, strange, 3, 5.0))
    assert judged(made, history).masked["unseen_regime"] == 0
    assert result.masked["unseen_regime"] == 50
    assert list(_masked(result.masked))[-1].startswith("  50 readings in a regime that training has not seen")
    assert set(load) == {0.0, 1.0}


def test_labels_of_vehicles_that_are_not_there_are_said_and_not_used() -> None:
    """A typing error in a label file changes no figure, and is told."""
    history = wearing()
    label = Label(vehicle="nobody", start=1, end=9, verdict="fault", source="workshop")
    told = make_history(UNLABELLED, history.batch, [], [label], [])
    assert told.faults == []
    assert told.notes[0] == "labels for 1 vehicles that have no reading are not used: nobody"


def test_faults_that_nobody_declared_hide_few_of_those_that_are_like_them() -> None:
    """Two worn vehicles of 24 that count as healthy raise the threshold: with all declared every failure is found, with
    two left out still more than half are."""
    history = wearing(1)
    labels = last_cycles(history)
    every = make_history(UNLABELLED, history.batch, [], labels, [])
    less = make_history(
        UNLABELLED, history.batch, [], [one for one in labels if one.vehicle not in history.names[:2]], []
    )
    told, left_out = (judged(trained(known, UNLABELLED), every, UNLABELLED).figures for known in (every, less))
    assert told.detected == 1.0
    assert left_out.detected is not None
    assert 0.5 < left_out.detected < 1.0

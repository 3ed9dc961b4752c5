"""What another setting, or training again and again, would have done."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.detectors.onnx import OnnxDetector
from anomaly.engine.model import Model
from anomaly.errors import DataError
from tests.training.suites.wearing import FLEET, case
from training.fit import fit
from training.sweep import ADAPTATIONS, replay_training, sweep_adaptation


def test_a_threshold_that_follows_everything_loses_faults_or_lead() -> None:
    """Every value of the knob has its figures; at 1, without bound and gate, slow wear is found later."""
    made = case(life=600, wear=3.0)
    trained = fit(made.fleet, made.past, made.split, 0)
    model = Model("m/1", "m", OnnxDetector(trained.onnx, trained.frame.signals), *trained[2:5])
    swept = sweep_adaptation(made.fleet, trained.frame, model, made.test)
    lead = {one.adaptation: one.figures.lead or 0.0 for one in swept}
    assert tuple(lead) == ADAPTATIONS
    assert lead[1.0] < lead[0.0]


def test_training_again_sees_only_what_was_known_then() -> None:
    """Each stretch was trained on more readings than the one before, and on none from after its time;
    that a vehicle will fail was not known before it did."""
    made = case()
    batch = made.past.batch
    replayed = replay_training(FLEET, batch, [], [], 40)
    times = [one.trained_at for one in replayed.stretches]
    assert np.diff(times).tolist() == [40] * (len(times) - 1)
    assert [one.readings for one in replayed.stretches] == [int((batch.ts <= at).sum()) for at in times]
    assert [one.faults for one in replayed.stretches] == [0] * len(times)
    assert replayed.figures.faults == len(made.past.faults)


def test_a_past_that_is_over_at_once_is_refused() -> None:
    """A past of a single moment has no stretch to score."""
    batch = case().past.batch
    moment = batch.take(np.flatnonzero(batch.ts == 0))
    with pytest.raises(DataError, match="longer"):
        replay_training(FLEET, moment, [], [], 40)

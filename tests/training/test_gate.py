"""The gate lets an equal challenger through and refuses one whose scores say nothing."""

from __future__ import annotations

import numpy as np

from anomaly.detectors.onnx import OnnxDetector
from anomaly.engine.model import Floats, Model
from tests.training.test_fit import fleet, wearing
from training.fit import Trained, fit
from training.gate import gate, probability_worse
from training.history import History, split_vehicles


class Scrambled:
    """The scores of a model, each given to another reading."""

    def __init__(self, detector: OnnxDetector) -> None:
        self._detector = detector

    def score(self, features: Floats) -> Floats:
        """The right scores in the wrong order."""
        return np.random.default_rng(0).permutation(self._detector.score(features))

    def contributions(self, features: Floats) -> Floats:
        """The model's own."""
        return self._detector.contributions(features)


def trained() -> tuple[History, Trained, Model]:
    """A model on some of the vehicles, and the rest of them."""
    history = wearing()
    split = split_vehicles(history.names, 0, 0)
    made = fit(fleet(), history, split, 0)
    model = Model("wearing/1", "d1", OnnxDetector(made.onnx, made.frame.signals), *made[2:5])
    return history.of([*split.validation, *split.test]), made, model


def test_the_same_model_again_passes() -> None:
    """A challenger that decides as the champion does is let through."""
    newest, made, model = trained()
    report = gate(fleet(), made.frame, model, model._replace(name="wearing/2"), newest)
    assert report.passed
    assert report.probability_worse == 0.5


def test_scrambled_scores_are_refused_with_the_reason() -> None:
    """A challenger whose scores belong to other readings is refused, and the report says why."""
    newest, made, model = trained()
    challenger = model._replace(scorer=Scrambled(model.scorer))
    report = gate(fleet(), made.frame, model, challenger, newest)
    assert not report.passed
    assert any("false alarms" in reason or "cost" in reason for reason in report.reasons)


def test_a_difference_in_one_vehicle_is_no_evidence() -> None:
    """One unlucky vehicle among many does not make a challenger likely worse; the same in all of them does."""
    champion = np.zeros(40)
    assert probability_worse(champion, champion + (np.arange(40) == 0) * 10.0) < 0.95
    assert probability_worse(champion, champion + 10.0) == 1.0

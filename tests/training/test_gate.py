"""The gate lets an equal challenger through and refuses one whose scores say nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from anomaly.detectors.onnx import OnnxDetector
from anomaly.engine.model import Floats, Model
from tests.training import aging
from tests.training.test_fit import fleet, wearing
from training.backtest import Before, backtest
from training.fit import Trained, fit
from training.gate import gate, probability_worse
from training.history import History, make_history, split_vehicles
from training.loop.gates import model_of
from training.loop.windows import only_from


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


def stepped() -> History:
    """The vehicles of `aging` without its faults: on day 60 all of them step to another normal, and stay there."""
    batch = aging.readings()
    moved = np.where(batch.ts >= 60 * aging.DAY, 3.0, 0.0)[:, None] * [1.0, -1.0]
    healthy = np.array([int(name[1:]) % 4 != 0 for name in batch.vehicles])
    batch = replace(batch, values=(batch.values + moved).astype(np.float32)).take(np.flatnonzero(healthy))
    return make_history(aging.fleet(), batch, [], [], [])


def test_before_its_turn_the_other_model_decides() -> None:
    """A take-over on any day: up to it every decision is the other's; at the first or the last reading, all are."""
    history, champion = stepped(), model_of(aging.champion(), "aging/1")
    challenger = champion._replace(name="aging/2", digest="2", k=2 * champion.k)
    alone = {model.name: played(champion, history, model, None) for model in (champion, challenger)}
    ts = history.batch.ts
    for until in (int(ts[0]), 40 * aging.DAY, 62 * aging.DAY + 1, int(ts[-1]) + 1):
        both = played(champion, history, challenger, Before(champion, until))
        before = int(np.sum(ts < until))
        assert both[:before] == alone["aging/1"][:before]
        assert (both == alone["aging/2"]) is (before == 0)


def played(champion: Model, history: History, model: Model, before: Before | None) -> list[tuple[float, bool]]:
    """The threshold and the alarm of every reading, in order."""
    table = backtest(aging.fleet(), aging.champion().frame, model, history, before).decisions
    return list(zip(table["threshold"].to_pylist(), (table["level"].to_numpy() > 1).tolist(), strict=True))


def test_what_alarmed_before_the_newest_days_is_not_charged_again() -> None:
    """All vehicles stepped, the champion alarmed at once and their normal moved; a slower challenger, which would have
    alarmed later by itself, has nothing to alarm for."""
    history, champion = stepped(), model_of(aging.champion(), "aging/1")
    slower = champion._replace(name="aging/2", digest="2", k=2.5 * champion.k)
    since = 75 * aging.DAY
    newest = only_from(history, since)
    assert gate(aging.fleet(), aging.champion().frame, champion, slower, newest, since).passed
    assert not gate(aging.fleet(), aging.champion().frame, champion, slower, newest).passed

"""The frame is fitted on what the engine would have learned from, and on nothing else."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np

from anomaly import settings
from anomaly.engine.frame import Frame
from anomaly.feedback.history import HEALTHY
from anomaly.fleet import Fleet
from anomaly.telemetry.text import Coded
from tests.training.test_fit import FLEET, fleet, wearing
from training.fit import fit
from training.frame import fit_frame, normalised, usual_evidence
from training.history import History, split_vehicles


def fitted(history: History, limits: str = "") -> Frame:
    """The frame of a history; `limits` are of signal a."""
    fleet = settings.parse(FLEET.replace("[signals.a]", f"[signals.a]\n{limits}"), Fleet, "fleet.toml")
    values = history.batch.values.astype(np.float64)
    return fit_frame(fleet, values, history.codes, history.health == HEALTHY, 0)


def test_what_is_physically_impossible_is_not_learned_from() -> None:
    """Values that the engine refuses move neither mean nor spread of what is normal."""
    history = wearing()
    clean = fitted(history)
    history.batch.values[::50, 0] = 1e6
    spoilt = fitted(history, "max = 1000.0")
    np.testing.assert_allclose(spoilt.sd, clean.sd, rtol=0.05)
    assert fitted(history).sd[0][0] > 1_000


def test_a_reading_without_regime_signals_is_in_the_regime_before() -> None:
    """Regime signals may come less often than others; in between, the engine keeps the regime, and so does the fit."""
    history = wearing()
    steps = np.arange(len(history.batch)) // len(history.names)
    held = steps // 10 * 10 * len(history.names) + history.codes
    load = history.batch.values[held, 3].copy()
    history.batch.values[:, :3] += 30 * (load - history.batch.values[:, 3])[:, None]
    history.batch.values[:, 3] = load
    always = fitted(history)
    history.batch.values[steps % 10 > 0, 3] = np.nan
    seldom = fitted(history)
    np.testing.assert_allclose(seldom.mean, always.mean, atol=0.05)
    np.testing.assert_allclose(seldom.sd, always.sd, rtol=0.05)


def test_who_is_in_a_regime_does_not_change_what_is_normal_there() -> None:
    """Vehicles whose offsets differ, and of which some are mostly in one regime and some in the other: a vehicle that
    goes from one to the other does not seem to change, and its spread is the same in both."""
    history = wearing()
    rng = np.random.default_rng(0)
    seldom = np.where(history.codes % 2 == 0, 0.1, 0.9)
    load = (rng.random(len(seldom)) < seldom).astype(np.float64)
    offset = np.where(history.codes % 2 == 0, 5.0, -5.0)
    history.batch.values[:, 3] = load
    history.batch.values[:, 0] = offset + 3.0 * load + rng.normal(0.0, 0.1, len(load))
    frame = fitted(history)
    low, high = (mean[0] for mean in frame.mean)
    assert abs(high - low - 3.0) < 0.05
    np.testing.assert_allclose([sd[0] for sd in frame.sd], 5.0, rtol=0.05)


def test_what_regime_signals_explain_is_taken_off_where_no_history_has_been_too() -> None:
    """A signal that follows a regime signal is no other in a colder place than any that the history shows, however
    vehicles differ that live in warm and cold places; what is farther than that is an error, and explains no more."""
    history = wearing()
    rng = np.random.default_rng(0)
    warm = history.codes % 2
    load = 0.5 * warm + rng.uniform(0.0, 0.7, len(warm))
    history.batch.values[:, 3] = load
    history.batch.values[:, 0] = 40.0 * load - 30.0 * warm + rng.normal(0.0, 0.1, len(warm))
    frame = fitted(history)
    places = np.array([0.3, -0.4, -9.0, np.nan])
    asked = np.column_stack([40.0 * places, np.zeros((4, 2)), places])
    asked[3, 0] = 40.0 * 0.3
    usual, colder, beyond, untold = normalised(fleet(), frame, asked, np.zeros(4, np.int64))[:, 0]
    assert abs(colder - usual) < 0.2
    assert beyond < usual - 5.0
    assert np.isfinite(untold)


def test_the_usual_size_of_evidence_is_what_one_reading_in_ten_passes() -> None:
    """That of the evidence alone, whatever else models are given, and never 0, as it is divided by."""
    rows = np.tile(np.float32([7.0] * 16), (1_000, 1))
    rows[:, :3] = np.column_stack([np.linspace(-1.0, 1.0, 1_000), np.linspace(0.0, 10.0, 1_000), np.zeros(1_000)])
    frame = fitted(wearing())
    np.testing.assert_allclose(usual_evidence(frame, rows), [0.9, 9.0, 1e-6], rtol=0.01)
    wide = msgspec.structs.replace(frame, features="wide")
    np.testing.assert_allclose(usual_evidence(wide, np.roll(rows, 6, axis=1)), [0.9, 9.0, 1e-6], rtol=0.01)
    assert usual_evidence(frame, rows[:0]) == ()


def test_evidence_has_a_usual_size_only_where_there_are_cohorts() -> None:
    """Nothing else asks for it."""
    text = FLEET.replace("[context]", '[context]\ncohort = ["type"]').replace("cycles", "s")
    history = wearing()
    told = {"type": Coded.of(["t"] * len(history.batch))}
    history = history._replace(batch=dataclasses.replace(history.batch, context=told))
    split = split_vehicles(history.names, 0, None)
    alone, together = (
        fit(settings.parse(each, Fleet, "fleet.toml"), history, split, 0).frame for each in (FLEET, text)
    )
    assert alone.usual == ()
    assert len(together.usual) == 3
    assert min(together.usual) > 0.05


def test_a_sensor_that_failed_and_nobody_told_of_it_does_not_excuse_the_next() -> None:
    """How far a signal may jump comes from nearly all steps of the history, not from the largest."""
    history = wearing(vehicles=500)
    clean = fitted(history).step[0]
    history.batch.values[5_000, 0] += 25.0
    assert 0.0 < clean < 3.0
    assert fitted(history).step[0] < 1.2 * clean

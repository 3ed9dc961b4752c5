"""The frame is fitted on what the engine would have learned from, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly import settings
from anomaly.engine.frame import Frame
from anomaly.feedback.history import HEALTHY
from anomaly.fleet import Fleet
from tests.training.test_fit import FLEET, fleet, wearing
from training.frame import fit_frame, normalised
from training.history import History
from training.slopes import heterogeneity


def fitted(history: History, limits: str = "", cohort: str = "") -> Frame:
    """The frame of a history; `limits` are of signal a, `cohort` is of the context."""
    text = FLEET.replace("[signals.a]", f"[signals.a]\n{limits}").replace("[context]", f"[context]\n{cohort}")
    text = text.replace("cycles", "s") if cohort else text
    fleet = settings.parse(text, Fleet, "fleet.toml")
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


@pytest.mark.parametrize(
    ("common", "apart", "share"), [(3.0, 1.0, 0.1), (3.0, 0.0, 0.0), (0.0, 0.0, 0.0)], ids=["unlike", "alike", "none"]
)
def test_vehicles_are_as_unlike_as_their_own_reactions_are(common: float, apart: float, share: float) -> None:
    """Slopes of 3 that differ by 1 are a tenth of what both make of a signal; noise that lasts for days, and signals
    that do not react at all, are taken for no difference between vehicles."""
    rng = np.random.default_rng(0)
    vehicles, days = 200, 300
    place = np.cumsum(rng.normal(size=(days, vehicles)), axis=0)
    slow = np.repeat(rng.normal(size=(days // 5, vehicles)), 5, axis=0)
    value = (common + apart * rng.normal(size=vehicles)) * place + 5.0 * slow + 50.0 * rng.normal(size=vehicles)
    codes = np.tile(np.arange(vehicles), days)
    found = heterogeneity(np.column_stack([value.ravel(), place.ravel()]), 1, codes, 20)
    assert abs(found - share) < 0.03


def test_a_signal_of_little_noise_is_doubted_more_and_without_cohorts_none_is() -> None:
    """The doubt is in variances that noise gives evidence."""
    history = wearing()
    rng = np.random.default_rng(0)
    load = rng.normal(size=len(history.codes))
    own = 3.0 + rng.normal(size=len(history.names))[history.codes]
    offset = rng.normal(size=len(history.names))[history.codes]
    history.batch.values[:, 3] = load
    history.batch.values[:, 0] = own * load + 5.0 * offset + rng.normal(size=len(load))
    history.batch.values[:, 1] = own * load + 5.0 * offset + 4.0 * rng.normal(size=len(load))
    calm, noisy, _ = fitted(history, cohort='cohort = ["type"]').doubt
    assert calm > 2.0 * noisy > 0.0
    assert fitted(history).doubt == ()


def test_a_sensor_that_failed_and_nobody_told_of_it_does_not_excuse_the_next() -> None:
    """How far a signal may jump comes from nearly all steps of the history, not from the largest."""
    history = wearing(vehicles=500)
    clean = fitted(history).step[0]
    history.batch.values[5_000, 0] += 25.0
    assert 0.0 < clean < 3.0
    assert fitted(history).step[0] < 1.2 * clean

"""The frame is fitted on what the engine would have learned from, and on nothing else."""

from __future__ import annotations

import numpy as np

from anomaly import settings
from anomaly.engine.frame import Frame
from anomaly.feedback.history import HEALTHY
from anomaly.fleet import Fleet
from tests.training.test_fit import FLEET, wearing
from training.frame import fit_frame
from training.history import History


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

"""What the family `distance` promises about where evidence is long."""

from __future__ import annotations

import numpy as np

from training.families.distance import length, precision_of, usual
from training.families.family import Evidence

READINGS = 4_000


def evidence(drift: float, failed: np.ndarray | None = None, far: np.ndarray | None = None) -> Evidence:
    """Evidence of two signals, of which the first drifts along with the seasons in all vehicles that never fail;
    `failed` rows are of vehicles that failed later, `far` ones are far out along the second signal."""
    rng = np.random.default_rng(0)
    rows = 0.2 * rng.normal(size=(READINGS, 2))
    rows[:, 0] += drift * rng.normal(size=READINGS)
    failed = np.zeros(READINGS, np.bool_) if failed is None else failed
    rows[failed, 1] += 3.0
    if far is not None:
        rows[far, 1] += 3.0
    every = np.ones(READINGS, np.bool_)
    return Evidence(rows, every, ~every, ~failed, np.eye(2), 0.05, 2, 0)


def reach(told: Evidence) -> tuple[float, float]:
    """How long a unit of evidence is along either signal."""
    first, second = length(np.eye(2), precision_of(usual(told), 2))
    return float(first), float(second)


def test_what_healthy_vehicles_do_over_time_counts_for_less() -> None:
    """Along the signal that drifts with the season evidence is a fraction as long, along the other what it was."""
    still, drifting = reach(evidence(0.0)), reach(evidence(1.0))
    assert drifting[0] < 0.5 * still[0]
    assert drifting[1] > 0.9 * still[1]


def test_the_beginning_of_wear_is_not_taken_for_usual() -> None:
    """Healthy readings of vehicles that failed later say nothing of what is usual, however far out they are."""
    failed = np.arange(READINGS) % 4 == 0
    assert reach(evidence(0.0, failed))[1] > 0.9 * reach(evidence(0.0))[1]


def test_faults_that_nobody_declared_weigh_little() -> None:
    """One vehicle in twenty that is far out shortens evidence by less than half of what a plain covariance would."""
    far = np.arange(READINGS) % 20 == 0
    told = evidence(0.0, far=far)
    plain = 3.0 * 0.05 / 1.95 * np.eye(2) + told.features.T @ told.features / READINGS
    naive = float(length(np.eye(2), precision_of(plain, 2))[1])
    kept, clean = reach(told)[1], reach(evidence(0.0))[1]
    assert clean - kept < 0.5 * (clean - naive)


def test_without_a_vehicle_that_never_failed_the_noise_of_readings_alone_counts() -> None:
    """As in a run to failure, where every engine wears out."""
    every = np.ones(READINGS, np.bool_)
    told = evidence(1.0, failed=every)
    assert np.allclose(usual(told), 3.0 * 0.05 / 1.95 * np.eye(2))

"""Tests of what is asked of a column along its vehicles."""

from __future__ import annotations

import numpy as np

from anomaly.telemetry.segments import Segments

RNG = np.random.default_rng(3)
NOISE = RNG.normal(size=8_000)
SEGMENTS = Segments.of(np.repeat(np.arange(40), 200))


def test_noise_has_no_persistence_and_a_walk_has_much() -> None:
    """Lag-1 autocorrelation is near 0 for noise, near 1 for a walk, and blind to the vehicle's own mean."""
    offset = np.repeat(RNG.normal(size=40), 200) * 100
    assert abs(SEGMENTS.persistence(NOISE + offset)) < 0.05
    assert SEGMENTS.persistence(np.cumsum(NOISE)) > 0.8
    assert SEGMENTS.persistence(np.ones(8_000)) == 0.0


def test_the_variance_ratio_sees_trends_and_vehicles() -> None:
    """The ratio is 1 within its error for noise, and well above where a trend or a vehicle's own level is added."""
    ratio, error = SEGMENTS.variance_ratio(NOISE)
    assert abs(ratio - 1) < 3 * error
    for more in (np.tile(np.linspace(0, 2, 200), 40), np.repeat(RNG.normal(size=40), 200)):
        ratio, error = SEGMENTS.variance_ratio(NOISE + more)
        assert ratio - 1 > 6 * error


def test_vehicles_too_short_for_a_block_prove_nothing() -> None:
    """Where no vehicle has ten rows the error is infinite."""
    assert Segments.of(np.array([0, 0, 1])).variance_ratio(np.array([1.0, 2.0, 3.0])) == (1.0, np.inf)


def test_a_run_ends_with_the_vehicle_and_with_a_gap() -> None:
    """Equal values count as one run only within one vehicle and without a gap between them."""
    segments = Segments.of(np.array([0, 0, 0, 1, 1, 1, 1]))
    assert segments.longest_run(np.array([1.0, 5, 5, 5, 5, np.nan, 5])) == 2
    assert (segments.vehicles, segments.lengths.tolist()) == (2, [3, 4])

"""The confidence sequence: its boundary, its gate, what covariates take off; and the read-out that is taken once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from anomaly.experiments import fixed_horizon
from anomaly.experiments.confidence_sequence import MIN_EVENTS, Arm, critical_z, estimate, interval


def arm(over: np.ndarray, under: float = 1.0, before: np.ndarray | None = None) -> Arm:
    """An arm whose vehicles all have the same `under`."""
    known = np.zeros((len(over), 0)) if before is None else before[:, None]
    return Arm(over.astype(float), np.full(len(over), under), known)


def two(effect: float = 0.0, seed: int = 0, count: int = 2_000) -> tuple[Arm, Arm]:
    """Treatment and control whose vehicles differ for good, with what they did before."""
    rng = np.random.default_rng(seed)
    rates = [rng.gamma(0.5, 2.0, count) for _ in range(2)]
    return tuple(  # type: ignore[return-value]
        arm(rng.poisson(rate * (1 + change) * 14), 14.0, rng.poisson(rate * 28) / 28)
        for rate, change in zip(rates, (effect, 0.0), strict=True)
    )


def test_the_boundary_is_narrowest_at_its_optimum() -> None:
    """It is wider before and after, and infinite without information."""
    widths = [critical_z(v, 200.0, 0.05) for v in (5.0, 50.0, 200.0, 800.0, 8_000.0)]
    assert widths[2] == min(widths)
    assert widths[2] > 1.96
    assert critical_z(0.0, 200.0, 0.05) == math.inf


def test_nothing_is_said_before_there_are_ten_events_an_arm() -> None:
    """Nine in the treatment: no interval, by sequence or read-out; ten: an interval."""
    many = arm(np.arange(900) < 100)
    few, enough = arm(np.arange(100) < MIN_EVENTS - 1), arm(np.arange(100) < MIN_EVENTS)
    assert interval(few, many, 0.05) is None
    assert fixed_horizon.interval(few, many, 0.05) is None
    assert interval(enough, many, 0.05) is not None


def test_one_vehicle_with_many_events_is_not_many_events() -> None:
    """A hundred events of one vehicle are one effective event, and open no gate."""
    crowded = arm(np.where(np.arange(100) == 0, 100, 0))
    assert crowded.events == pytest.approx(1.0)
    assert interval(crowded, arm(np.arange(900) < 100), 0.05) is None


def test_the_difference_is_that_of_the_ratios() -> None:
    """Sums over sums, whatever the covariates: they take nothing off on average and make it surer."""
    treatment, control = two(-0.2)
    plain = estimate(
        treatment._replace(covariates=np.zeros((2_000, 0))), control._replace(covariates=np.zeros((2_000, 0)))
    )
    assert plain.difference == pytest.approx(treatment.over.sum() / treatment.under.sum() - control.over.mean() / 14)
    adjusted = estimate(treatment, control)
    assert adjusted.error < 0.6 * plain.error
    assert adjusted.difference == pytest.approx(-0.2, abs=4 * adjusted.error)


def test_a_covariate_that_says_nothing_changes_nothing() -> None:
    """A constant, or one that is there twice, is no division by zero."""
    treatment, control = two()
    doubled = [
        one._replace(covariates=np.column_stack([one.covariates, one.covariates, one.under]))
        for one in (treatment, control)
    ]
    assert estimate(doubled[0], doubled[1]) == pytest.approx(estimate(treatment, control), rel=1e-6)


def test_the_read_out_is_narrower_than_the_sequence() -> None:
    """One look costs less than all of them; the sequence holds the difference that is there."""
    treatment, control = two(-0.2, seed=3)
    once, always = fixed_horizon.interval(treatment, control, 0.05), interval(treatment, control, 0.05)
    assert once is not None
    assert always is not None
    assert always[0] < once[0] < once[1] < always[1]
    assert always[0] < -0.2 < always[1]


def test_an_empty_arm_says_nothing() -> None:
    """No vehicle, no figure, no warning."""
    nobody = Arm(np.zeros(0), np.zeros(0), np.zeros((0, 0)))
    assert math.isnan(estimate(nobody, arm(np.ones(5))).difference)
    assert interval(nobody, arm(np.ones(50)), 0.05) is None

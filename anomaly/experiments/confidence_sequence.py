"""The asymptotic confidence sequence: an interval for a difference that holds at every look at once.

Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and asymptotic confidence
sequences", 2024: difference +- z(v) * standard error with z(v) = sqrt((v + 1) / v * (ln(v + 1) - 2 ln alpha)), the
boundary of a normal mixture at the intrinsic time v. Here v is counted in effective events of both arms,
1 / (1 / e_treatment + 1 / e_control) with e = (sum y)^2 / sum y^2 over vehicles (Kish 1965), the inverse of the
relative variance of a sum: a vehicle with ten events is one unit, not ten. It is narrowest at OPTIMUM, a constant
that no data move.

Valid where the standard error is: outcomes by vehicle, each arm with at least MIN_EVENTS effective events (a variance
that is estimated from 0 to 2 events is next to nothing, and the sequence then errs six times as often as it says).
Vehicles whose rates differ for good make looks more alike than the boundary assumes: it errs less (Slepian 1962).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
MIN_EVENTS = 10
OPTIMUM = 200.0
"""Intrinsic time at which the sequence is narrowest: 400 effective events an arm."""


class Arm(NamedTuple):
    """One arm by vehicle: sums of what is counted (`over`), of what it is divided by (`under`), float64[n].

    `covariates` are float64[n, c], known before the vehicle took part.
    """

    over: Values
    under: Values
    covariates: Values

    @property
    def events(self) -> float:
        """Effective events: as many as there were, were no vehicle to have more than one."""
        squares = float((self.over**2).sum())
        return float(self.over.sum()) ** 2 / squares if squares else 0.0


class Estimate(NamedTuple):
    """A difference of ratios (treatment - control) and its standard error; NaN where an arm has no `under`."""

    difference: float
    error: float


def critical_z(information: float, optimum: float, alpha: float) -> float:
    """How many standard errors wide the sequence is to either side; infinite without information.

    >>> round(critical_z(200.0, 200.0, 0.05), 2)
    3.04
    """
    if information <= 0.0:
        return math.inf
    tightest = -2.0 * math.log(alpha)
    v = (tightest + math.log1p(tightest)) * information / optimum
    return math.sqrt((v + 1.0) / v * (math.log1p(v) + tightest))


def estimate(treatment: Arm, control: Arm) -> Estimate:
    """The difference of the arms' ratios sum(over) / sum(under), with what the covariates explain taken off.

    Each vehicle's part in its arm's ratio is linear (delta method): R + (over - R under) / mean(under). Covariates are
    taken off with one slope for both arms, from deviations within the arms (CUPED: Deng, Xu, Kohavi & Walker 2013;
    a stratum's indicator as covariate is post-stratification): the expected difference stays what it was, since both
    arms have the same distribution of whatever was there before.
    """
    if treatment.under.sum() <= 0 or control.under.sum() <= 0 or min(len(treatment.under), len(control.under)) < 2:
        return Estimate(math.nan, math.nan)
    y = [_linear(arm) for arm in (treatment, control)]
    x = [arm.covariates for arm in (treatment, control)]
    if x[0].shape[1]:
        slope = _slope(y, x)
        y = [values - covariates @ slope for values, covariates in zip(y, x, strict=True)]
    variance = sum(float(values.var(ddof=1)) / len(values) for values in y)
    return Estimate(float(y[0].mean() - y[1].mean()), math.sqrt(variance))


def interval(treatment: Arm, control: Arm, alpha: float) -> tuple[float, float] | None:
    """The sequence for the difference at this look; None before each arm has MIN_EVENTS of them."""
    events = treatment.events, control.events
    if min(events) < MIN_EVENTS:
        return None
    found = estimate(treatment, control)
    width = critical_z(1.0 / (1.0 / events[0] + 1.0 / events[1]), OPTIMUM, alpha) * found.error
    return (found.difference - width, found.difference + width) if math.isfinite(width) else None


def _linear(arm: Arm) -> Values:
    ratio = arm.over.sum() / arm.under.sum()
    return np.asarray(ratio + (arm.over - ratio * arm.under) / arm.under.mean())


def _slope(y: list[Values], x: list[Values]) -> Values:
    inner = np.vstack([covariates - covariates.mean(axis=0) for covariates in x])
    outer = np.concatenate([values - values.mean() for values in y])
    gram = inner.T @ inner
    return np.asarray(np.linalg.lstsq(gram, inner.T @ outer, rcond=1e-9)[0])

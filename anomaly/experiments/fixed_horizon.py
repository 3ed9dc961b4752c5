"""The planned read-out: one look, at the end that was fixed before the start, by vehicle.

difference +- z(1 - alpha / 2) * standard error, the standard error over vehicles as in `confidence_sequence.estimate`
(Welch 1947 for the unequal variances; so many vehicles that the normal quantile serves). Valid for a single look,
with MIN_EVENTS events an arm: looked at every day and stopped at the first success it errs in 11 to 39 % of the cases.
"""

from __future__ import annotations

from statistics import NormalDist

from anomaly.experiments.confidence_sequence import MIN_EVENTS, Arm, estimate


def interval(treatment: Arm, control: Arm, alpha: float) -> tuple[float, float] | None:
    """The interval for the difference; None with fewer than MIN_EVENTS events in an arm."""
    found = estimate(treatment, control)
    if min(treatment.events, control.events) < MIN_EVENTS or found.error != found.error:
        return None
    width = NormalDist().inv_cdf(1.0 - alpha / 2.0) * found.error
    return found.difference - width, found.difference + width

"""Why a model is trained again: it is time, enough was learned since, or the fleet is not what it was."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import poisson

Cause = Literal["schedule", "labels", "drift"]
DRIFT_WINDOW_DAYS = 7
DRIFT_P = 0.001


class Rules(NamedTuple):
    """`every_days` since the last training, `labels` that matured since, `drift_days` of drift in a row; 0: never."""

    every_days: float
    labels: int
    drift_days: int


class Seen(NamedTuple):
    """What there is to see: days since the last training, labels that matured since, days of drift up to now, and
    what drifts, in words."""

    days: float
    labels: int
    drift_days: int
    drift: str = ""


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """A reason to train: its cause, and a sentence with the figures."""

    cause: Cause
    reason: str


def due(rules: Rules, seen: Seen) -> Trigger | None:
    """The reason to train now, the most pressing one first; None: there is none.

    >>> due(Rules(28, 50, 7), Seen(days=3, labels=12, drift_days=9, drift="alarm rate")).cause
    'drift'
    """
    if rules.drift_days and seen.drift_days >= rules.drift_days:
        what = seen.drift or "the fleet"
        said = f"{what} is not what it was, for {seen.drift_days} days; {rules.drift_days} are enough"
        return Trigger(cause="drift", reason=said)
    if rules.labels and seen.labels >= rules.labels:
        return Trigger(cause="labels", reason=f"{seen.labels} labels matured, {rules.labels} are enough")
    if rules.every_days and seen.days >= rules.every_days:
        said = f"{seen.days:.0f} days since the last training, one is due every {rules.every_days:g}"
        return Trigger(cause="schedule", reason=said)
    return None


def too_many(alerts: int, budget_a_day: float) -> bool:
    """Whether the alerts of a window of DRIFT_WINDOW_DAYS are more than the budget explains, by Poisson's law."""
    return bool(poisson.sf(alerts - 1, budget_a_day * DRIFT_WINDOW_DAYS) < DRIFT_P)


def persisting(alerts_by_day: NDArray[np.int64], budget_a_day: float) -> int:
    """For how many days up to the last one the window that ends with each had too many alerts.

    >>> persisting(np.array([0, 0, 0, 0, 0, 0, 0, 9, 9]), 0.5)
    1
    """
    days = 0
    for end in range(len(alerts_by_day), DRIFT_WINDOW_DAYS - 1, -1):
        if not too_many(int(alerts_by_day[end - DRIFT_WINDOW_DAYS : end].sum()), budget_a_day):
            break
        days += 1
    return days

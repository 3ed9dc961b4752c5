"""The first-event e-process: each vehicle counts once, at its first event; for rare guardrails and for the split.

Vehicles are assigned independently, so that under the null the arms of those that had an event are coin throws of a
known probability, whatever the rates, their drift, or how vehicles differ. k of n such vehicles are in the treatment.

`log_e` mixes the alternatives with Beta(a, b) (Robbins 1970; Grünwald, de Heide & Koolen 2024):
E = B(a + k, b + n - k) / B(a, b) / (share^k (1 - share)^(n - k)), a test martingale with E(0) = 1. By Ville's
inequality it ever reaches 1 / alpha with probability at most alpha: it is exact for any number of looks and for any
number of events, none included. What it needs is that an event is confirmed without regard to the arm (an audit
sample): where only alerted vehicles are inspected, it compares alerting.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]
MASS = 20.0
"""Weight of the prior of a guardrail: alternatives spread around the share, a doubling of the rate among them."""
SPLIT_MASS = 1_200.0
"""Weight of the prior of the split, Beta(600, 600) at equal shares: what breaks a split (52/48) lies within a few
percent of it. A flat prior spends itself on splits that nobody would need a test for, and takes far longer."""


class Prior(NamedTuple):
    """Beta(a, b) over the treatment's share of the vehicles with an event."""

    a: float
    b: float

    @classmethod
    def around(cls, share: float, mass: float = MASS) -> Prior:
        """The prior with this mean and weight."""
        return cls(mass * share, mass * (1.0 - share))


def log_e(k: ArrayLike, n: ArrayLike, share: float, prior: Prior) -> Values:
    """ln E of the null that the treatment's share of the events is `share` (0 < share < 1), for each k of n."""
    from scipy.special import betaln

    k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
    mixed = betaln(prior.a + k, prior.b + n - k) - betaln(prior.a, prior.b)
    return np.asarray(mixed - k * np.log(share) - (n - k) * np.log1p(-share))


def log_e_harm(k: ArrayLike, n: ArrayLike, share: float, max_ratio: float = 1.0) -> Values:
    """ln E of the null that the treatment's rate is at most `max_ratio` (>= 1) times the control's.

    The treatment's share of the events is then at most p0 = share r / (1 - share + share r). The prior is
    Beta around p0, cut to what is above it: each of its points is a martingale at p0 and falls below it.
    """
    from scipy.special import betainc, betaln

    k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
    p0 = share * max_ratio / (1.0 - share + share * max_ratio)
    a, b = Prior.around(p0)
    with np.errstate(divide="ignore"):
        above = np.log(betainc(b + n - k, a + k, 1.0 - p0)) - np.log(betainc(b, a, 1.0 - p0))
    mixed = above + betaln(a + k, b + n - k) - betaln(a, b)
    return np.asarray(mixed - k * np.log(p0) - (n - k) * np.log1p(-p0))


def log_e_split(treated: ArrayLike, vehicles: ArrayLike, share: float) -> Values:
    """ln E of the null that each vehicle is in the treatment with probability `share`: sample-ratio mismatch."""
    return log_e(treated, vehicles, share, Prior.around(share, SPLIT_MASS))

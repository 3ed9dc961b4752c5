"""The betting confidence sequence: for outcomes between 0 and 1, exact for any number of them and any look.

Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024 (hedged capital,
predictable plug-in bets). Each unit (a vehicle, at its first outcome, in order of time) gives
w = 1/2 + s/2 * (y / share in the treatment, -y / (1 - share) in the control), s = min(share, 1 - share), which is
in [0, 1] and has the mean 1/2 + s/2 * difference. The sequence holds all means against which the bets earned less
than 1 / alpha. Needs that the share is known and that outcomes come without regard to the arm; no variance, no
number of events. Wider than the asymptotic sequence where that one is valid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
GRID = 401
MOST = 0.5
"""A bet never risks more than this part of what is there."""


def interval(outcomes: Values, treated: NDArray[np.bool_], share: float, alpha: float) -> tuple[float, float]:
    """The sequence for mean(treatment) - mean(control) after n outcomes in [0, 1], float64[n], in order of time.

    Without outcomes it is [-1, 1]. Raises ValueError for an outcome outside [0, 1].
    """
    if not len(outcomes):
        return -1.0, 1.0
    if not (outcomes.min() >= 0.0 and outcomes.max() <= 1.0):
        raise ValueError(f"outcomes lie in {outcomes.min():g} to {outcomes.max():g}; they must lie in 0 to 1")
    return _held(stakes(outcomes, treated, share), min(share, 1.0 - share) / 2.0, alpha)


def paired_interval(differences: Values, alpha: float) -> tuple[float, float]:
    """The sequence for the mean of n differences in [-1, 1] of the same units, float64[n], in order of time."""
    return _held(0.5 + differences / 2.0, 0.5, alpha) if len(differences) else (-1.0, 1.0)


def _held(w: Values, scale: float, alpha: float) -> tuple[float, float]:
    """The differences that are still held after bets on w, whose mean is 1/2 + scale * difference."""
    differences = np.linspace(-1.0, 1.0, GRID)
    alive = log_capital(w, 0.5 + scale * differences, alpha)[-1] < np.log(1.0 / alpha)
    if not alive.any():  # between two points of the grid
        best = float(differences[int(np.argmin(np.abs(0.5 + scale * differences - w.mean())))])
        return best, best
    first, last = np.flatnonzero(alive)[[0, -1]]
    return float(differences[max(first - 1, 0)]), float(differences[min(last + 1, GRID - 1)])


def stakes(outcomes: Values, treated: NDArray[np.bool_], share: float) -> Values:
    """What is bet on: w in [0, 1] with the mean 1/2 + min(share, 1 - share) / 2 * difference, float64[n]."""
    scale = min(share, 1.0 - share) / 2.0
    return np.asarray(0.5 + scale * np.where(treated, outcomes / share, -outcomes / (1.0 - share)))


def log_capital(w: Values, means: Values, alpha: float) -> Values:
    """ln of what the hedged bets against each of m means have earned after each of n outcomes w: float64[n, m].

    Half of the capital bets that the mean is above, half that it is below.
    """
    bets = _bets(w, alpha)[:, None]
    inside = np.clip(means, 1e-9, 1.0 - 1e-9)[None, :]
    above = np.log1p(np.minimum(bets, MOST / inside) * (w[:, None] - means)).cumsum(axis=0)
    below = np.log1p(-np.minimum(bets, MOST / (1.0 - inside)) * (w[:, None] - means)).cumsum(axis=0)
    return np.asarray(np.logaddexp(above, below) - np.log(2.0))


def _bets(w: Values, alpha: float) -> Values:
    """How much is put on the t-th outcome, from those before it alone."""
    t = np.arange(1, len(w) + 1)
    mean = (0.5 + np.cumsum(w)) / (t + 1)
    variance = (0.25 + np.cumsum((w - mean) ** 2)) / (t + 1)
    before = np.concatenate([[0.25], variance[:-1]])
    return np.asarray(np.sqrt(2.0 * np.log(2.0 / alpha) / (before * t * np.log(t + 1))))

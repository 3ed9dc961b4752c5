"""Fleets to try a statistic on: each a draw of one run, small enough to be drawn thousands of times."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Run(NamedTuple):
    """Vehicles in the order in which their outcome became known: outcome, pre-period, in the treatment or not."""

    outcome: Values
    before: Values
    treated: NDArray[np.bool_]


def common(rng: np.random.Generator, vehicles: int, share: float, effect: float = 0.0) -> Run:
    """Days with a false alarm in 14, from rates that differ as Gamma(1/2) does (mean 0.2 a day).

    `effect` multiplies the treatment's rate by 1 + effect; the pre-period are 28 days of the same vehicle.
    """
    rate = rng.gamma(0.5, 0.4, vehicles)
    treated = rng.random(vehicles) < share
    outcome = np.minimum(rng.poisson(14.0 * rate * np.where(treated, 1.0 + effect, 1.0)), 14)
    return Run(outcome.astype(np.float64), rng.poisson(28.0 * rate) / 28.0, treated)


def rare(rng: np.random.Generator, vehicles: int, share: float, base: float, effect: float = 0.0) -> Run:
    """A vehicle has an event with the probability `base`, in the treatment times 1 + effect; no pre-period."""
    treated = rng.random(vehicles) < share
    outcome = rng.random(vehicles) < base * np.where(treated, 1.0 + effect, 1.0)
    return Run(outcome.astype(np.float64), np.zeros(vehicles), treated)


class Panel(NamedTuple):
    """All vehicles from the first day on: events float64[vehicles, days], in the treatment or not."""

    events: Values
    treated: NDArray[np.bool_]


def panel(rng: np.random.Generator, vehicles: int = 2_000, days: int = 90) -> Panel:
    """Events a day from rates that differ as Gamma(1/2) does, mean 0.2, the same in both arms."""
    rate = rng.gamma(0.5, 0.4, vehicles)
    return Panel(rng.poisson(rate[:, None], (vehicles, days)).astype(np.float64), rng.random(vehicles) < 0.5)

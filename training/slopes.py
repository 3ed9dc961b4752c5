"""What regime signals do to signals: slopes, the same for all vehicles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
COMMON_SLOPE, OWN_SLOPE = 3.0, 0.1
"""What is known beforehand of slopes, in spreads of a signal within vehicle and regime for one of a regime signal: how
steep they are at all, and how far one regime's lie from those of all. A month shows little of a slope, and what it
shows is carried far beyond it."""


def explained(away: Floats, regime: NDArray[np.int64], slope: Floats) -> Floats:
    """What regime signals that are `away` [n, c] from their center do to the signals [n, d], by `slope` [R, c, d]."""
    return np.asarray(np.einsum("nc,ncd->nd", away, slope[regime]))


def slopes(values: Floats, away: Floats, codes: NDArray[np.int64], regime: NDArray[np.int64], regimes: int) -> Floats:
    """What a spread of each regime signal does to each signal in each regime [R, c, d], by least squares on healthy
    readings, shrunk where a regime signal hardly moves (ridge, Hoerl and Kennard 1970).

    Readings are compared with others of the same vehicle in the same regime alone: how vehicles differ that live in
    warm or cold places is no slope. In a place colder than any that the history shows, the slope goes on.
    """
    fields, signals = away.shape[1], values.shape[1]
    slope = np.zeros((regimes, fields, signals))
    for j in range(signals if fields else 0):
        there = np.isfinite(values[:, j])
        own, place = regime[there], codes[there] * regimes + regime[there]
        x, steps = (_centred(each[there], place) for each in (values[:, j, None], away))
        spread = float(x.std()) or 1.0
        common = _ridge(steps, x[:, 0] / spread, np.zeros(fields), COMMON_SLOPE)
        for r in range(regimes):
            inside = own == r
            slope[r, :, j] = spread * _ridge(steps[inside], x[inside, 0] / spread, common, OWN_SLOPE)
    return slope


def _ridge(steps: Floats, x: Floats, center: Floats, spread: float) -> Floats:
    """Slopes [c] of x [n], whose noise is 1, on `steps` [n, c], known beforehand to lie within `spread` of `center`."""
    prior = np.eye(len(center)) / spread**2
    return np.asarray(np.linalg.solve(steps.T @ steps + prior, steps.T @ x + prior @ center))


def _centred(values: Floats, place: NDArray[np.int64]) -> Floats:
    """The columns of `values` less the mean of all rows at the same place."""
    cells = int(place.max(initial=-1)) + 1
    count = np.maximum(np.bincount(place, minlength=cells), 1)
    return np.stack([x - (sums(place, x, cells) / count)[place] for x in values.T], axis=1)


def sums(place: NDArray[np.int64], values: Floats, places: int) -> Floats:
    """The sum of the `values` [n] at each of `places`."""
    return np.bincount(place, values, places).astype(np.float64)

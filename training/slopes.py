"""What regime signals do to signals: slopes, the same for all vehicles, and how unlike vehicles react."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.matrix import rank_within

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
        x, steps = (centred(each[there], place) for each in (values[:, j, None], away))
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


def heterogeneity(values: Floats, signals: int, codes: NDArray[np.int64], length: int) -> float:
    """How unlike vehicles react to what moves them all: the variance of their slopes, of each signal on each regime
    signal, beside the square of the slope that they have in common; a share of both, all pairs together, 0 to 1.

    `values` [n, columns] are healthy, rows and `codes` in order of time. The error of a vehicle's slope is taken off
    the variance; readings err together that are less than `length` apart (Liang and Zeger 1986). The share is believed
    as far as the common slope is more than that error: 0 where signals do not react, or without regime signals.
    """
    parts = np.zeros(3)
    rank = rank_within(codes)
    _, block = np.unique(codes * (int(rank.max(initial=0)) + 1) + rank // length, return_inverse=True)
    for place in values[:, signals:].T:
        for value in values[:, :signals].T:
            there = np.isfinite(place) & np.isfinite(value)
            if there.any():
                pair = np.stack([place[there], value[there] / (value[there].std() or 1.0)], axis=1)
                parts += _reactions(centred(pair, codes[there]), codes[there], block[there])
    own, common, error = np.maximum(parts, 0.0).tolist()
    return own / (own + common + error) * common / (common + error) if common > 0 else 0.0


def _reactions(pair: Floats, codes: NDArray[np.int64], block: NDArray[np.int64]) -> tuple[float, float, float]:
    """What of the variance of y the slopes on x make that are vehicles' own, that they have in common, and that are
    error; `pair` [n, 2] is x and y, centred within vehicles, `block` [n] says which readings err together."""
    x, y = pair.T
    blocks, vehicles = int(block.max()) + 1, int(codes.max()) + 1
    whose = np.zeros(blocks, np.int64)
    whose[block] = codes
    size = np.maximum(sums(codes, x * x, vehicles), 1e-12)
    slope = sums(codes, x * y, vehicles) / size
    together = sums(block, x * (y - slope[codes] * x), blocks)
    error = sums(whose, together**2, vehicles) / size**2
    weight = size / len(x)
    mean = float(weight @ slope) / float(weight.sum())
    erring = float(weight @ error)
    return float(weight @ (slope - mean) ** 2) - erring, float(weight.sum()) * mean**2, erring


def centred(values: Floats, place: NDArray[np.int64]) -> Floats:
    """The columns of `values` less the mean of all rows at the same place."""
    cells = int(place.max(initial=-1)) + 1
    count = np.maximum(np.bincount(place, minlength=cells), 1)
    return np.stack([x - (sums(place, x, cells) / count)[place] for x in values.T], axis=1)


def sums(place: NDArray[np.int64], values: Floats, places: int) -> Floats:
    """The sum of the `values` [n] at each of `places`."""
    return np.bincount(place, values, places).astype(np.float64)

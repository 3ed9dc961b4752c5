"""Fit the frame on the healthy readings of training vehicles: regimes, what is normal in each, the baseline's prior."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from anomaly.engine.frame import BLOCKS, MOST_AWAY, STATISTICS, Frame, OwnPast
from anomaly.errors import DataError
from anomaly.fleet import Fleet
from training.slopes import explained, slopes, sums

Floats = NDArray[np.float64]
MOST_REGIMES = 12
WELL_SEPARATED = 0.001
SMALLEST_REGIME = 20
ROUNDS = 50
"""Of backfitting: enough where one reading in ten of a vehicle is in another regime than most."""
SMALLEST_USUAL = 1e-6
"""Of a signal that says nothing evidence is 0, and is divided by this."""
LEAST_SPREAD = 0.01
"""Vehicles differ by a tenth of a healthy spread at least, as variance: what is new to the fleet, such as a season that
no history has shown, is then not taken for noise of the burn-in, and the vehicle's own baseline holds it."""


class _Regimes:
    """Places of the regimes among the regime signals, in spreads."""

    def __init__(self, center: Floats, scale: Floats) -> None:
        self.center, self.scale = center, scale

    def of(self, values: Floats, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The regime of each row; without any regime signal the one of the vehicle's row before, at first regime 0."""
        distance = ((values[:, None, :] - self.center) / self.scale) ** 2
        nearest = np.argmin(np.nansum(distance, axis=2), axis=1)
        if values.shape[1] == 0:
            return np.asarray(nearest)
        told = np.asarray(np.isfinite(values).any(axis=1))
        order = np.argsort(codes, kind="stable")
        place = np.arange(len(order))
        latest = np.maximum.accumulate(np.where(told[order], place, -1))
        begins = np.searchsorted(codes[order], codes[order], side="left")
        regime = np.empty(len(order), np.int64)
        regime[order] = np.where(latest >= begins, nearest[order][latest], 0)
        return regime

    def away(self, values: Floats, regime: NDArray[np.int64]) -> Floats:
        """How far readings are from the center of their regime in each regime signal, in spreads, MOST_AWAY at most."""
        spreads = (values - self.center[regime]) / self.scale
        return np.where(np.isfinite(spreads), np.clip(spreads, -MOST_AWAY, MOST_AWAY), 0.0)

    def reach(self, values: Floats) -> tuple[float, ...]:
        """How far readings lie from the center that is nearest to them, in spreads: a tenth beyond the farthest of each
        regime, and a twentieth of a spread at least. Empty without any regime signal."""
        if not values.shape[1]:
            return ()
        known = values[np.isfinite(values).any(axis=1)]
        distance = np.nansum(((known[:, None, :] - self.center) / self.scale) ** 2, axis=2)
        nearest, farthest = distance.argmin(axis=1), np.zeros(len(self.center))
        np.maximum.at(farthest, nearest, np.sqrt(distance.min(axis=1)))
        return tuple(np.maximum(1.1 * farthest, 0.05).tolist())


def usual_gap(codes: NDArray[np.int64], ts: NDArray[np.int64]) -> float:
    """The 99 % point of the ticks between two readings of a vehicle; rows in order of time. 0 where there are none."""
    order = np.argsort(codes, kind="stable")
    same = codes[order][1:] == codes[order][:-1]
    gaps = np.diff(ts[order])[same]
    return float(np.quantile(gaps, 0.99)) if len(gaps) else 0.0


def fit_frame(
    fleet: Fleet,
    values: Floats,
    codes: NDArray[np.int64],
    healthy: NDArray[np.bool_],
    seed: int,
    rhythm: float = 0.0,
) -> Frame:
    """The frame of `values` [n, columns] (rows of training vehicles in order of time, `codes` their vehicles).

    Means and spreads come from `healthy` rows; the prior from each vehicle's first `burn_in` rows; `rhythm` is that of
    `Frame`, as `usual_gap` measures it.
    Raises DataError where no healthy row is there.
    """
    signals = len(fleet.signals)
    if not healthy.any():
        raise DataError("no healthy reading is left to learn from: check the labels and [history] healthy_share")
    values = _usable(fleet, values)
    regimes = _fit_regimes(values[healthy][:, signals:], seed)
    regime = regimes.of(values[:, signals:], codes)
    _require_values(fleet, values[healthy, :signals])
    place = codes[healthy], regime[healthy], len(regimes.center)
    if fleet.model.family == "conformal":
        return _conformal(fleet, regimes, *_normal(values[healthy, :signals], *place))
    away = regimes.away(values[:, signals:], regime)
    slope = slopes(values[healthy, :signals], away[healthy], *place)
    values[:, :signals] -= explained(away, regime, slope)
    mean, sd = _normal(values[healthy, :signals], *place)
    z = np.clip((values[:, :signals] - mean[regime]) / sd[regime], -12, 12)
    noise = noise_covariance(z, codes, healthy)
    prior, gain, between = _fit_prior(z, codes, noise, fleet.baseline.burn_in)
    basis, spread = np.zeros((0, signals)), np.zeros(0)
    if fleet.threshold.share.born_ill > 0 and between is not None:
        basis, spread = _birth(between, noise)
    return Frame(
        signals=tuple(fleet.signals),
        regime=fleet.context.regime,
        center=_tuples(regimes.center),
        scale=tuple(regimes.scale.tolist()),
        mean=_tuples(mean),
        sd=_tuples(sd),
        prior=tuple(prior.tolist()),
        gain=_tuples(gain),
        burn_in=fleet.baseline.burn_in,
        time_constant=fleet.model.time_constant,
        cohort=fleet.context.cohort,
        period=0 if fleet.context.cohort is None else fleet.ticks(fleet.context.period),
        features=fleet.frame_features,
        abrupt_time_constant=fleet.model.abrupt_time_constant,
        basis=_tuples(basis),
        between=tuple(spread.tolist()),
        step=_isolated_steps(z, codes, healthy),
        rhythm=rhythm,
        reach=regimes.reach(values[:, signals:]),
        slope=tuple(map(_tuples, slope / sd[:, None, :])) if slope.size else (),
    )


def usual_evidence(frame: Frame, features: NDArray[np.float32]) -> tuple[float, ...]:
    """`Frame.usual` from `features` [n, width], which a frame without it gave to readings whose evidence had two time
    constants to gather; empty without a row."""
    signals = len(frame.signals)
    first = BLOCKS[frame.features].index("evidence") * signals
    sizes = np.abs(features[:, first : first + signals])
    return tuple(np.maximum(np.quantile(sizes, 0.9, axis=0), SMALLEST_USUAL).tolist()) if len(sizes) else ()


def _conformal(fleet: Fleet, regimes: _Regimes, mean: Floats, sd: Floats) -> Frame:
    """The frame of streams that are judged by themselves: nothing of others in it but the regimes.

    In a single regime values stay as they are: streams of any scale share the frame, and none loses its digits.
    """
    signals = len(fleet.signals)
    if len(regimes.center) == 1:
        mean, sd = np.zeros((1, signals)), np.ones((1, signals))
    return Frame(
        signals=tuple(fleet.signals),
        regime=fleet.context.regime,
        center=_tuples(regimes.center),
        scale=tuple(regimes.scale.tolist()),
        mean=_tuples(mean),
        sd=_tuples(sd),
        prior=(0.0,) * signals,
        gain=_tuples(np.eye(signals)),
        burn_in=fleet.baseline.burn_in,
        time_constant=fleet.model.time_constant,
        period=0 if fleet.fleet.time_unit == "cycles" else fleet.ticks("1h"),
        features="conformal",
        own_past=own_past(fleet),
    )


def own_past(fleet: Fleet) -> OwnPast:
    """What the fleet file asks for of conformal features; plain where it asks for all of them, in whatever order."""
    asked = fleet.model.conformal
    chosen = () if set(asked.statistics) == set(STATISTICS) else tuple(s for s in STATISTICS if s in asked.statistics)
    return OwnPast(statistics=chosen, recent=asked.recent, memory=asked.memory)


def normalised(fleet: Fleet, frame: Frame, values: Floats, codes: NDArray[np.int64]) -> Floats:
    """`values` [n, columns] (rows and `codes` as in `fit_frame`) as the engine sees them before any baseline.

    z [n, signals], NaN where there is no value or a physically impossible one.
    """
    arrays, signals = frame.arrays(), len(frame.signals)
    values = _usable(fleet, values)
    regimes = _Regimes(arrays.center, 1.0 / arrays.inv_scale)
    regime = regimes.of(values[:, signals:], codes)
    z = (values[:, :signals] - arrays.mean[regime]) * arrays.inv_sd[regime]
    if arrays.slope.size:
        z -= explained(regimes.away(values[:, signals:], regime), regime, arrays.slope)
    return np.where(np.isfinite(z), np.clip(z, -12, 12), np.nan)


def _usable(fleet: Fleet, values: Floats) -> Floats:
    """`values` with NaN for what is infinite, and for what is out of a signal's range."""
    limits = list(fleet.signals.values())
    low = np.array([-np.inf if signal.min is None else signal.min for signal in limits], np.float32)
    high = np.array([np.inf if signal.max is None else signal.max for signal in limits], np.float32)
    usable = np.isfinite(values)
    usable[:, : len(limits)] &= (values[:, : len(limits)] >= low) & (values[:, : len(limits)] <= high)
    return np.where(usable, values, np.nan)


def noise_covariance(z: Floats, codes: NDArray[np.int64], healthy: NDArray[np.bool_]) -> Floats:
    """Half the mean outer product of a vehicle's successive healthy differences [d, d] (von Neumann 1941).

    It holds what changes from one reading to the next, and nothing of a slow drift.
    """
    order = np.argsort(codes, kind="stable")
    before, after = order[:-1], order[1:]
    pairs = (codes[before] == codes[after]) & healthy[before] & healthy[after]
    step = z[after[pairs]] - z[before[pairs]]
    there = np.isfinite(step)
    step = np.where(there, step, 0.0)
    seen = there.T.astype(np.float64) @ there
    return np.asarray((step.T @ step) / (2 * np.maximum(seen, 1)))


def _fit_regimes(values: Floats, seed: int) -> _Regimes:
    """The fewest clusters that leave under 0.1 % of the variance (KMeans); without regime signals there is one."""
    fields = values.shape[1]
    if not fields:
        return _Regimes(np.zeros((1, 0)), np.ones(0))
    known = values[np.isfinite(values).all(axis=1)]
    if not len(known):
        raise DataError(
            "no healthy reading has all regime signals; take those that are mostly missing out of [context]"
        )
    scale = np.where(known.std(axis=0) > 0, known.std(axis=0), 1.0)
    sample = known[np.random.default_rng(seed).permutation(len(known))[:20_000]] / scale
    total = float(((sample - sample.mean(axis=0)) ** 2).sum())
    distinct = len(np.unique(sample, axis=0))
    for count in range(1, min(MOST_REGIMES, distinct) + 1):
        fit = KMeans(count, n_init=10, random_state=seed).fit(sample)
        if fit.inertia_ <= WELL_SEPARATED * total:
            break
    order = np.lexsort(fit.cluster_centers_.T[::-1])
    return _Regimes(fit.cluster_centers_[order] * scale, scale)


def _require_values(fleet: Fleet, healthy: Floats) -> None:
    """DataError that names every signal without a finite value among the `healthy` readings."""
    names = ", ".join(name for place, name in enumerate(fleet.signals) if np.isnan(healthy[:, place]).all())
    if names:
        raise DataError(f"no healthy reading has a value of {names}; take it out of the fleet file")


def _normal(values: Floats, codes: NDArray[np.int64], regime: NDArray[np.int64], regimes: int) -> tuple[Floats, Floats]:
    """Mean and spread of each signal in each regime, of healthy `values` [n, signals]; a regime seldom seen borrows the
    fleet's.

    Some vehicles see more of a regime than others do: mountains, or a warm region. The mean of a regime is that of the
    average vehicle in it, by least squares of value = regime + vehicle (two-way fixed effects): else a vehicle that
    comes into another regime would seem to change by as much as those differ who are mostly there. The spread is that
    of the vehicles, the same in all regimes, with that of the readings beside it.
    """
    mean = np.tile(np.nanmean(values, axis=0), (regimes, 1))
    sd = np.tile(np.nanstd(values, axis=0), (regimes, 1))
    cell = codes * regimes + regime
    for j in range(values.shape[1]):
        there = np.isfinite(values[:, j])
        x, where = values[there, j], cell[there]
        cells = (int(codes.max()) + 1) * regimes
        count, total = (sums(where, w, cells).reshape(-1, regimes) for w in (np.ones(len(x)), x))
        effect, own = _two_ways(count, total)
        enough = count.sum(axis=0) >= SMALLEST_REGIME
        rest = (x - effect[regime[there]] - own[codes[there]]) ** 2
        within = np.bincount(regime[there], rest, regimes) / np.maximum(count.sum(axis=0), 1)
        between = float((count.sum(axis=1) * own**2).sum() / max(len(x), 1))
        mean[enough, j] = effect[enough]
        sd[enough, j] = np.sqrt(between + within[enough])
    return mean, np.where(sd < 1e-6, 1.0, sd)


def _two_ways(count: Floats, total: Floats) -> tuple[Floats, Floats]:
    """Effects of regimes and of vehicles, these 0 in the mean over readings, from the `count` and `total` of values of
    each vehicle in each regime [vehicles, regimes]: least squares by backfitting (Friedman and Stuetzle 1981)."""
    of_vehicle, of_regime = np.maximum(count.sum(axis=1), 1), np.maximum(count.sum(axis=0), 1)
    own = np.zeros(len(count))
    for _ in range(ROUNDS):
        effect = (total - count * own[:, None]).sum(axis=0) / of_regime
        own = (total - count * effect).sum(axis=1) / of_vehicle
    usual = float((count.sum(axis=1) * own).sum() / max(count.sum(), 1))
    return effect + usual, own - usual


def _fit_prior(
    z: Floats, codes: NDArray[np.int64], noise: Floats, burn_in: int
) -> tuple[Floats, Floats, Floats | None]:
    """Empirical Bayes: m the mean of the vehicles' burn-in means, gain T (T + N / burn_in)^-1, and T, their spread.

    Morris 1983; T = spread of the means less their own noise, its eigenvalues floored at LEAST_SPREAD. With fewer than
    three vehicles there is no T.
    """
    means = []
    for code in np.unique(codes):
        first = z[codes == code][:burn_in]
        there = np.isfinite(first)
        means.append(np.where(there, first, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1))
    own = np.array(means)
    prior = own.mean(axis=0)
    if len(own) < 3:
        return prior, np.eye(z.shape[1]), None
    share = noise / burn_in
    size, direction = np.linalg.eigh(np.cov(own.T).reshape(share.shape) - share)
    spread = (direction * np.maximum(size, LEAST_SPREAD)) @ direction.T
    return prior, spread @ np.linalg.inv(spread + share + 1e-9 * np.eye(len(share))), spread


def _birth(between: Floats, noise: Floats) -> tuple[Floats, Floats]:
    """The basis W [d, d] and the spreads t [d] of `Frame.basis`: W N W' = 1 and W T W' = diag(t)."""
    root = np.linalg.inv(np.linalg.cholesky(shrunk(noise)))
    spread, vectors = np.linalg.eigh(root @ between @ root.T)
    return np.asarray(vectors.T @ root), np.maximum(spread, 0.0)


def shrunk(covariance: Floats) -> Floats:
    """0.95 C + 0.05 diag(C) + 1e-6 I; a signal without any noise counts as if it had its healthy spread."""
    diagonal = np.diag(covariance)
    kept = covariance + np.diag(np.where(diagonal > 1e-9, 0.0, 1.0))
    return np.asarray(0.95 * kept + 0.05 * np.diag(np.diag(kept)) + 1e-6 * np.eye(len(kept)))


def _isolated_steps(z: Floats, codes: NDArray[np.int64], healthy: NDArray[np.bool_]) -> tuple[float, ...]:
    """How far from its evidence a signal may jump before it is its sensor's fault: a quarter more than healthy steps
    from one reading to the next, of which each brings its noise; and farther than what a signal of few values does
    more than once in 1,000 readings.

    Of the steps all but one in 10,000 count, as nobody tells of every sensor that failed; all, where most are 0. A
    quarter of a healthy spread at least, 6 where nothing ever moved; beyond 11, where readings are clipped, nothing can
    be said: 0.
    """
    order = np.argsort(codes, kind="stable")
    before, after = order[:-1], order[1:]
    pairs = (codes[before] == codes[after]) & healthy[before] & healthy[after]
    steps = np.nan_to_num(np.abs(z[after[pairs]] - z[before[pairs]]))
    if not len(steps):
        return tuple(6.0 for _ in range(z.shape[1]))
    often, seldom = np.quantile(steps, [0.999, 0.9999], axis=0)
    largest = np.where(seldom > 0, seldom, steps.max(axis=0))
    limits = np.maximum(1.25 / np.sqrt(2) * largest, 1.05 * often)
    limits = np.where(limits > 0, np.maximum(limits, 0.25), 6.0)
    kept: list[float] = np.where(limits > 11.0, 0.0, limits).tolist()
    return tuple(kept)


def _tuples(matrix: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())

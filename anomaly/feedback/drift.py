"""What can be watched without labels: whether readings, features and scores are still those that a model was made for.

Every limit is calibrated on quiet history: it is what no window of that time passed, so that a further window like
these passes one with a probability of about 1 / (windows + 1). History without a season that is still to come says
nothing of it: the more of a year, the better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

BINS = 10
LEAST = 200
"""A distribution of fewer values than this is not compared."""
OUTSIDE = "outside the training range"
STABILITY = "stability of"
ABOUT_THE_FLEET = (STABILITY, OUTSIDE)
"""How findings begin that say how signals, features and scores of the newest window are: the rest is about alerts and
people, or, as ADWIN's count, about all that was since the quiet time."""
DELTAS = (2e-2, 2e-3, 2e-4, 2e-6, 2e-9)
"""What ADWIN is tried with, from sensitive to slow: the first that finds nothing in quiet history is taken."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen from `start` to `end` (excluded).

    `values` are those of each signal, feature and score by cohort, such as `score:north`; `scalars` are single figures:
    larger is worse; `daily` is the mean score of each day by cohort.
    """

    start: int
    end: int
    values: dict[str, NDArray[np.float32]]
    scalars: dict[str, float]
    daily: dict[str, list[float]]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How values were distributed: the inner edges of bins of equal shares, the shares, and the range."""

    edges: list[float]
    shares: list[float]
    low: float
    high: float
    limit: float


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """What quiet history was like, from `start` to `end` in `windows` windows of `length` ticks, for one model.

    `limits` are those of single figures, `delta` that of ADWIN by cohort.
    """

    model: str
    start: int
    end: int
    length: int
    windows: int
    shapes: dict[str, Shape]
    limits: dict[str, float]
    delta: dict[str, float]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at: its value, its limit, and whether it passed it."""

    name: str
    value: float
    limit: float
    drifted: bool


def psi(shares: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    """The population stability index of `counts` in bins whose shares were `shares`.

    sum((p - q) ln(p / q)), with half a value added to each bin, so that an empty one is finite (Siddiqi 2006).
    """
    found = (counts + 0.5) / (counts.sum() + 0.5 * len(shares))
    wanted = (shares + 1e-6) / (shares + 1e-6).sum()
    return float(((found - wanted) * np.log(found / wanted)).sum())


def calibrate(model: str, windows: Sequence[Window]) -> Reference:
    """Learn what quiet is from its `windows`, in order: shapes of all, limits by each window against the others.

    The limits of all stability indices together are set by one factor on each one's own mean over all windows,
    so that looking at many of them raises no more alarms than looking at one.

    Raises ValueError for fewer than four windows.
    """
    if len(windows) < 4:
        raise ValueError(f"{len(windows)} windows are too few to calibrate on; four or more are needed")
    shapes: dict[str, Shape] = {}
    indices: dict[str, list[float]] = {}
    for name in sorted({name for window in windows for name in window.values}):
        parts = [part for window in windows if len(part := _finite(window.values.get(name))) >= LEAST]
        if len(parts) >= 4:
            shapes[name], indices[name] = _shape(parts)
    factor = max((_largest(np.array(found)) for found in indices.values()), default=1.0)
    shapes = {
        name: msgspec.structs.replace(shape, limit=float(factor * np.mean(indices[name])))
        for name, shape in shapes.items()
    }
    scalars = sorted({name for window in windows for name in window.scalars})
    limits = {name: max(window.scalars.get(name, 0.0) for window in windows) for name in scalars}
    return Reference(
        model=model,
        start=windows[0].start,
        end=windows[-1].end,
        length=windows[0].end - windows[0].start,
        windows=len(windows),
        shapes=shapes,
        limits=limits | {OUTSIDE: max(_outside(shapes, window) for window in windows)},
        delta=_deltas(windows),
    )


def judge(reference: Reference, windows: Sequence[Window]) -> list[Finding]:
    """What of the newest of `windows` (in order) is beyond its limit; those that drifted first."""
    newest = windows[-1]
    found = []
    for name, shape in reference.shapes.items():
        values = _finite(newest.values.get(name))
        if len(values) >= LEAST:
            index = psi(np.array(shape.shares), _counts(values, shape.edges))
            found.append(_finding(f"{STABILITY} {name}", index, shape.limit))
    scalars = {**newest.scalars, OUTSIDE: _outside(reference.shapes, newest)}
    found += [
        _finding(name, value, reference.limits[name]) for name, value in scalars.items() if name in reference.limits
    ]
    for cohort, delta in reference.delta.items():
        days = [value for window in windows for value in window.daily.get(cohort, [])]
        found.append(_finding(f"change of the daily {cohort}", float(_changes(days, delta)), 0.0))
    return sorted(found, key=lambda one: (not one.drifted, -one.value / max(one.limit, 1e-9), one.name))


def _finding(name: str, value: float, limit: float) -> Finding:
    return Finding(name=name, value=round(value, 6), limit=round(limit, 6), drifted=round(value, 6) > round(limit, 6))


def _finite(values: NDArray[np.float32] | None) -> NDArray[np.float32]:
    return np.zeros(0, np.float32) if values is None else np.asarray(values[np.isfinite(values)], np.float32)


def _counts(values: NDArray[np.float32], edges: Sequence[float]) -> NDArray[np.float64]:
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1).astype(np.float64)


def _shape(parts: Sequence[NDArray[np.float32]]) -> tuple[Shape, list[float]]:
    """The shape of all parts, and the stability index of each against the others. The range leaves out one in 1,000."""
    values = np.concatenate(parts)
    edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS)).astype(float).tolist()
    counts = [_counts(part, edges) for part in parts]
    total = np.sum(counts, axis=0)
    indices = [psi((total - own) / (total - own).sum(), own) for own in counts]
    low, high = np.quantile(values, [0.0005, 0.9995])
    shares = (total / total.sum()).tolist()
    return Shape(edges=edges, shares=shares, low=float(low), high=float(high), limit=0.0), indices


def _largest(indices: NDArray[np.float64]) -> float:
    """The largest of n stability indices as a multiple of the mean of the others, as a further one is taken."""
    others = (indices.sum() - indices) / (len(indices) - 1)
    return float((indices / np.maximum(others, 1e-12)).max())


def _outside(shapes: Mapping[str, Shape], window: Window) -> float:
    """The largest share, over all signals and cohorts, of values beyond the range that was trained on."""
    shares = [0.0]
    for name, shape in shapes.items():
        values = _finite(window.values.get(name))
        if name.startswith("signal ") and len(values) >= LEAST:
            shares.append(float(((values < shape.low) | (values > shape.high)).mean()))
    return max(shares)


def _deltas(windows: Sequence[Window]) -> dict[str, float]:
    found = {}
    for cohort in sorted({name for window in windows for name in window.daily}):
        days = [value for window in windows for value in window.daily.get(cohort, [])]
        found[cohort] = next((delta for delta in DELTAS if not _changes(days, delta)), DELTAS[-1])
    return found


def _changes(values: Sequence[float], delta: float) -> int:
    """How often ADWIN (Bifet and Gavalda 2007), from River, finds that the mean of `values` has changed."""
    from river.drift import ADWIN

    detector = ADWIN(delta=delta, clock=1, grace_period=5, min_window_length=5)
    count = 0
    for value in values:
        detector.update(value)
        count += bool(detector.drift_detected)
    return count

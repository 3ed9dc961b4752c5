"""VUS-PR: the volume under the surface of precision and recall over buffer lengths (Paparrizos and others 2022)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
THRESHOLDS = 250


def vus_pr(scores: Floats, labels: NDArray[np.bool_], longest: int) -> float:
    """Mean of `range_auc_pr` over the buffer lengths 0 to `longest`, in points; 0..1, NaN without an anomaly.

    Unlike a point-adjusted F1 it needs no threshold, and a random score stays near the base rate (Liu and Paparrizos
    2024).
    """
    ranked = np.argsort(-scores, kind="stable")
    return float(np.mean([_area(scores, ranked, labels, length) for length in range(longest + 1)]))


def range_auc_pr(scores: Floats, labels: NDArray[np.bool_], length: int) -> float:
    """Area under precision and recall of `scores` [n] with labels that fade out beside each anomaly.

    A point within `length` // 2 of an anomaly, d points from it, has the label sqrt(1 - d / length). Recall is over the
    mean of the sharp and the faded labels' sums, times the share of anomalies that are touched at all. Thresholds are
    250 of the scores, evenly spaced by rank.
    """
    return _area(scores, np.argsort(-scores, kind="stable"), labels, length)


def _area(scores: Floats, ranked: NDArray[np.int64], labels: NDArray[np.bool_], length: int) -> float:
    if not labels.any():
        return float("nan")
    faded = buffered(labels, length)
    descending = scores[ranked]
    at = descending[np.linspace(0, len(scores) - 1, THRESHOLDS).astype(np.int64)]
    alarms = np.searchsorted(-descending, -at, side="right")
    found = np.cumsum(faded[ranked])[alarms - 1]
    starts, ends = _segments(faded > 0)
    highest = np.array([scores[start:end].max() for start, end in zip(starts, ends, strict=True)])
    touched = (highest[:, None] >= at).mean(axis=0)
    recall = np.minimum(found / ((labels.sum() + faded.sum()) / 2), 1.0) * touched
    return float(np.sum(np.diff(recall, prepend=0.0) * found / alarms))


def buffered(labels: NDArray[np.bool_], length: int) -> Floats:
    """Labels 0..1 that fade out over `length` // 2 points on both sides of each anomaly; overlapping ones add up to 1.

    >>> buffered(np.array([False, False, True, False, False]), 4).round(3).tolist()
    [0.707, 0.866, 1.0, 0.866, 0.0]
    """
    faded = labels.astype(np.float64)
    for start, end in zip(*_segments(labels), strict=True):
        after = np.arange(end - 1, min(end - 1 + length // 2, len(labels)))
        before = np.arange(max(start - length // 2, 0), start)
        faded[after] += np.sqrt(1.0 - (after - (end - 1)) / max(length, 1))
        faded[before] += np.sqrt(1.0 - (start - before) / max(length, 1))
    return np.minimum(faded, 1.0)


def _segments(marked: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where runs of True begin, and the points after their ends."""
    edges = np.diff(np.concatenate([[0], marked.astype(np.int8), [0]]))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)

"""Whether one cohort moved and the others did not, as a merged period of the cohorts says it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.engine.cohorts import Merged
from anomaly.engine.model import Checks
from anomaly.fleet import Fleet

Floats = NDArray[np.float64]
FEWEST = 3
"""Of fewer cohorts nobody can say which one it is that moved."""
OFF = (
    "the check on whole cohorts is off: fewer than 3 cohorts of the history have enough vehicles; "
    "its share of the budget goes to faults"
)


def why_off(fleet: Fleet, limit: float | None) -> str:
    """OFF where the fleet file asks for the check, and a model with the threshold `limit` has it not; else empty."""
    asked = fleet.context.cohort is not None and fleet.threshold.share.cohort > 0
    return OFF if asked and (limit is None or math.isinf(limit)) else ""


class Unlike(NamedTuple):
    """How far each of C cohorts is from the others: `level` float64[C], 1.0 is the line, NaN where too little is known;
    `share` float64[C, d] of each signal, rows sum to 1; `usual` float64[d], the median of all cohorts."""

    level: Floats
    share: Floats
    usual: Floats


def unlike(merged: Merged, checks: Checks) -> Unlike:
    """What the period says of each cohort, by the thresholds of a model; all levels are 0 where the check is off."""
    medians = merged.medians.astype(np.float64)
    if not np.isfinite(checks.cohort):
        return Unlike(np.zeros(len(medians)), np.zeros_like(medians), np.zeros(medians.shape[1]))
    usual, scatter = usual_of(medians)
    parts = _parts(medians - usual, scatter, np.array(checks.cohort_spread))
    total = np.nansum(parts, axis=1)
    share = np.nan_to_num(parts) / np.where(total > 0, total, 1.0)[:, None]
    return Unlike(_distances(parts) / checks.cohort, share, usual)


def distances(medians: Floats, spread: Floats) -> Floats:
    """Of `medians` [C, d] of cohorts, in healthy spreads, NaN where unknown: how far each is from the others, [C].

    With u_j the median over the cohorts and S_j = 1.4826 median |m_j - u_j| their scatter now (a normal spread;
    Hampel 1974), it is sqrt(mean((m_j - u_j)^2 / (s_j^2 + S_j^2))) over the signals that are known, `spread` s [d]
    being the usual one. What moves all cohorts alike moves u with them; what sends all of them apart, as a season does
    that is not the same everywhere, widens S. NaN for a cohort without a signal that FEWEST have.
    """
    usual, scatter = usual_of(medians)
    return _distances(_parts(medians - usual, scatter, spread))


def _distances(parts: Floats) -> Floats:
    known = np.isfinite(parts).sum(axis=1)
    mean = np.nansum(parts, axis=1) / np.maximum(known, 1)
    return np.asarray(np.where(known > 0, np.sqrt(mean), np.nan))


def usual_of(medians: Floats) -> tuple[Floats, Floats]:
    """The median of each signal over the cohorts, and their scatter around it, [d] each; NaN where FEWEST lack it."""
    usual, scatter = np.full((2, medians.shape[1]), np.nan)
    enough = np.isfinite(medians).sum(axis=0) >= FEWEST
    if enough.any():
        usual[enough] = _median(medians[:, enough])
        scatter[enough] = 1.4826 * _median(np.abs(medians[:, enough] - usual[enough]))
    return usual, scatter


def _median(values: Floats) -> Floats:
    """Of each column the median of what is no NaN. On so few cohorts `np.nanmedian` takes fifteen times as long."""
    ordered, known, columns = np.sort(values, axis=0), np.isfinite(values).sum(axis=0), np.arange(values.shape[1])
    return np.asarray((ordered[(known - 1) // 2, columns] + ordered[known // 2, columns]) / 2)


def _parts(moved: Floats, scatter: Floats, spread: Floats) -> Floats:
    return np.asarray(moved**2 / (spread**2 + scatter**2))

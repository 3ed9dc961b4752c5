"""The threshold of the check on whole cohorts, from how far cohorts are apart in the healthy periods of a history."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anomaly.engine.cohort_check import FEWEST, distances, usual_of
from anomaly.engine.cohorts import BETWEEN, Merged
from anomaly.engine.layout import CLOSED
from anomaly.engine.model import Checks
from training.figures import episode_starts
from training.history import History
from training.threshold import choose_k

Floats = NDArray[np.float64]
LEAST_SPREAD = 0.1
"""In healthy spreads: the width of a histogram's bin, below which medians tell nothing."""
LEAST = 4.0
"""A distance below which nobody is alarmed, however calm the history: a season that it did not have sends cohorts apart
by up to 3.4 (scenario D of the simulator), and a defect of a whole cohort by 19 (scenario H)."""
ILL_SHARE = 0.25
"""A cohort of which more vehicles have a fault is not healthy."""


def members(history: History, fields: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """The codes of each cohort's vehicles, by the cohort's key: where each was told to be last."""
    columns = [history.batch.context[field] for field in fields]
    words = [np.array(["" if word is None else word for word in column.words], object) for column in columns]
    told = np.ones(len(history.codes), np.bool_)
    for column in columns:
        told &= np.array([word is not None for word in column.words])[column.codes]
    last = np.full(len(history.names), -1)
    np.maximum.at(last, history.codes[told], np.flatnonzero(told))
    found: dict[str, list[int]] = {}
    for code in np.flatnonzero(last >= 0).tolist():
        key = BETWEEN.join(word[column.codes[last[code]]] for word, column in zip(words, columns, strict=True))
        found.setdefault(key, []).append(code)
    return {key: np.array(codes) for key, codes in found.items()}


def cohort_checks(
    history: History, fields: Sequence[str], merged: Sequence[Merged], allowed: float
) -> tuple[Checks, int]:
    """The check on cohorts with the threshold that at most `allowed` episodes of the healthy `merged` periods pass, and
    how many do; it is off where fewer than FEWEST cohorts have enough vehicles.

    Where less than one is allowed, the threshold is no lower than the exponential tail beyond the 90 % point says
    (Pickands 1975), one in CLOSED periods being a new one.
    """
    keys = sorted({key for period in merged for key in period.keys})
    medians = _healthy(history, members(history, fields), merged, keys)
    if np.isfinite(medians).any(axis=(0, 2)).sum() < FEWEST:
        return Checks(), 0
    moved = np.array([each - usual_of(each)[0] for each in medians])
    known = np.isfinite(moved).any(axis=(0, 1))
    spread = np.full(moved.shape[2], LEAST_SPREAD)
    spread[known] = np.maximum(1.4826 * np.nanmedian(np.abs(moved[:, :, known]), axis=(0, 1)), LEAST_SPREAD)
    distance = np.array([distances(each, spread) for each in medians])
    period, cohort = np.nonzero(np.isfinite(distance))
    if not len(period):
        return Checks(), 0
    told = distance[period, cohort]
    times = np.array([each.period for each in merged], np.int64)[period]
    seen = choose_k(told.astype(np.float32), cohort, times, 1, allowed)
    k = max(seen, _beyond(told, allowed) if allowed < 1 else 0.0, LEAST)
    checks = Checks(cohort=float(np.float32(k)), cohort_spread=tuple(map(float, spread.astype(np.float32))))
    order = np.lexsort((times, cohort))
    return checks, len(episode_starts(cohort[order], times[order], told[order] > k, 1))


def _beyond(told: Floats, allowed: float) -> float:
    upper = float(np.quantile(told, 0.9))
    beyond = told[told > upper]
    share = max(allowed, 1e-6) * CLOSED / len(told)
    if not len(beyond) or share >= 0.1:
        return upper
    return upper + float(np.mean(beyond - upper)) * math.log(0.1 / share)


def _healthy(
    history: History, vehicles: dict[str, NDArray[np.int64]], merged: Sequence[Merged], keys: Sequence[str]
) -> Floats:
    """The medians [periods, cohorts, d] of the cohorts that are healthy in a period; NaN elsewhere."""
    d = merged[0].medians.shape[1] if merged else 0
    found = np.full((len(merged), len(keys), d), np.nan)
    faults = np.array([(fault.code, fault.start, fault.end) for fault in history.faults], np.int64).reshape(-1, 3)
    for place, period in enumerate(merged):
        start = period.period * period.ticks
        ill = faults[(faults[:, 1] < start + period.ticks) & (faults[:, 2] >= start), 0]
        for key, medians in zip(period.keys, period.medians, strict=True):
            own = vehicles.get(key, np.zeros(0, np.int64))
            if np.isin(own, ill).sum() <= ILL_SHARE * len(own):
                found[place, keys.index(key)] = medians
    return found

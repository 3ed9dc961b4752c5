"""Which signals say what a vehicle is doing: they have few, well separated values and move other signals."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.telemetry.segments import Segments

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_LEVELS = 20
"""A regime has 2 to 20 classes; more are a quantity, not a mode."""
SEPARATION = 5.0
"""A gap between two levels is at least so many times the widest level."""
SMALLEST_SHARE = 0.03
"""Each level holds at least this share of the readings: rarer values are events."""
MOVED = 0.1
"""Changes of the level explain at least this share of the changes of some other signal."""
MOST_ROWS = 20_000
"""Successive differences that the share explained is estimated from."""


class Regimes(NamedTuple):
    """Regime signals, and the regime of each reading.

    `signals` are positions of columns, `classes` int64[n] the joint level of each reading, 0 to `number`-1;
    `even` are positions of columns with a few values on an even grid: a mode or a coarse sensor: who can tell?
    """

    signals: list[int]
    classes: Ints
    number: int
    even: list[int]


def find_regimes(names: list[str], values: Floats, segments: Segments) -> Regimes:
    """The regime signals among the columns of `values` float64[n, m], rows in the order of `segments`.

    A regime signal has 2 to 20 well separated levels, each of them common, changes within most vehicles,
    holds no movement of its own around its levels, and moves others when it changes. Of several that say the
    same the finest is taken, with those that are named alike (`setting_1`, `setting_2`).
    """
    levels = {column: levels_of(values[:, column]) for column in range(len(names))}
    even = [column for column, found in levels.items() if found is None and _on_even_grid(values[:, column])]
    candidates = {
        column: found
        for column, found in levels.items()
        if found is not None and _says_mode(values[:, column], found, segments)
    }
    order = sorted(candidates, key=lambda column: (-_count(candidates[column]), column))
    chosen: list[int] = []
    classes: Ints = np.zeros(len(values), np.int64)
    for column in order:
        finer = joint(classes, candidates[column])
        if _count(classes) < _count(finer) <= MOST_LEVELS and _moves_others(values, column, classes, finer, segments):
            chosen.append(column)
            classes = finer
    for column in candidates:
        alike = any(_stem(names[column]) == _stem(names[other]) for other in chosen)
        finer = joint(classes, candidates[column])
        if alike and column not in chosen and _count(finer) <= MOST_LEVELS:
            chosen.append(column)
            classes = finer
    return Regimes(sorted(chosen), classes, _count(classes), even)


def levels_of(column: Floats) -> Ints | None:
    """The level of each reading, 0 to k - 1 in order of value; None if there are not 2 to 20 separate ones.

    Levels are cut at the widest gaps between distinct values: where the gaps suddenly get narrower, or, for a
    few exact values, at each. Three or more exact values on an even grid are no levels: a coarse sensor looks
    the same.
    """
    distinct = np.unique(column[np.isfinite(column)])
    if len(distinct) < 2:
        return None
    gaps = np.diff(distinct)
    cuts = _cuts(distinct, gaps)
    if cuts is None:
        return None
    borders = distinct[cuts]
    found: Ints = np.searchsorted(borders, np.nan_to_num(column, nan=distinct[0])).astype(np.int64)
    return found


def _cuts(distinct: Floats, gaps: Floats) -> Ints | None:
    """Positions in `gaps` where one level ends and the next begins."""
    widest = np.argsort(-gaps, kind="stable")
    sizes = gaps[widest]
    most = min(MOST_LEVELS, len(gaps))
    with np.errstate(over="ignore"):
        ratios = sizes[: most - 1] / sizes[1:most] if len(gaps) > MOST_LEVELS else sizes[:-1] / sizes[1:]
    for last in np.argsort(-ratios, kind="stable"):
        cuts = np.sort(widest[: last + 1])
        edges = np.concatenate([[0], cuts + 1, [len(distinct)]])
        width = max(distinct[stop - 1] - distinct[start] for start, stop in pairwise(edges))
        if ratios[last] >= SEPARATION and sizes[last] >= SEPARATION * width:
            return cuts
    exact = len(distinct) == 2 or (len(distinct) <= MOST_LEVELS and not _even(gaps))
    return np.arange(len(gaps)) if exact else None


def _even(gaps: Floats) -> bool:
    """Whether at least half of the gaps are the smallest step: a grid, perhaps with holes."""
    return bool(np.median(gaps) <= 1.01 * gaps.min())


def _on_even_grid(column: Floats) -> bool:
    distinct = np.unique(column[np.isfinite(column)])
    return 3 <= len(distinct) <= MOST_LEVELS and _even(np.diff(distinct))


def joint(first: Ints, second: Ints) -> Ints:
    """The class of each reading in the product of two partitions, numbered from 0 without holes."""
    pairs = first * (int(second.max(initial=0)) + 1) + second
    numbered: Ints = np.unique(pairs, return_inverse=True)[1].astype(np.int64)
    return numbered


def within(values: Floats, classes: Ints) -> Floats:
    """`values` float64[n, m] minus the mean of each class; NaN stays NaN."""
    residual = np.empty_like(values)
    for number in range(_count(classes)):
        rows = classes == number
        part = values[rows]
        present = np.isfinite(part)
        mean = np.where(present, part, 0.0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)
        residual[rows] = part - mean
    return residual


def _says_mode(column: Floats, levels: Ints, segments: Segments) -> bool:
    """Whether levels are common, change within most vehicles, and nothing persists around them."""
    counts = np.bincount(levels)
    if counts.min() < SMALLEST_SHARE * len(levels):
        return False
    changes = segments.same & (np.diff(levels) != 0)
    changing = np.unique(segments.codes[1:][changes])
    if len(changing) < 0.5 * segments.vehicles:
        return False
    residual = within(column[:, None], levels)[:, 0]
    return segments.persistence(residual) < 0.1


def _moves_others(values: Floats, own: int, before: Ints, after: Ints, segments: Segments) -> bool:
    """Whether changes between `after` classes explain changes of another signal that `before` did not."""
    residual = np.nan_to_num(within(values, before))
    rows = np.flatnonzero(segments.same)
    rows = rows[:: max(1, len(rows) // MOST_ROWS)]
    others = np.delete(residual, own, axis=1)
    change = others[rows + 1] - others[rows]
    total = (change**2).sum(axis=0)
    moving = total > 1e-12 * np.maximum(1.0, (others**2).sum(axis=0))
    if not moving.any():
        return False
    share = np.eye(_count(after))[:, 1:]
    step = share[after[rows + 1]] - share[after[rows]]
    fitted = step @ np.linalg.lstsq(step, change[:, moving], rcond=None)[0]
    explained = (fitted**2).sum(axis=0) / total[moving]
    return bool(explained.max() >= MOVED)


def _count(classes: Ints) -> int:
    return int(classes.max(initial=0)) + 1


def _stem(name: str) -> str:
    """A name without the number at its end; one without a number is alike to nothing but itself."""
    return re.sub(r"\d+$", "", name) if name[-1:].isdigit() else f"={name}"

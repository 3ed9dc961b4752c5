"""The scoring of the Numenta Anomaly Benchmark by its published definition (Lavin and Ahmad 2015; version 1.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PROBATION_SHARE, PROBATION_OF = 0.15, 5_000
OUTSIDE, PROBATION = -1, -2


class Profile(NamedTuple):
    """What a window found early, a false alarm and a missed window are worth."""

    found: float
    false: float
    missed: float


PROFILES = {
    "standard": Profile(1.0, 0.11, 1.0),
    "low_false_positives": Profile(1.0, 0.22, 1.0),
    "low_false_negatives": Profile(1.0, 0.11, 2.0),
}


class Marked(NamedTuple):
    """What an alarm at each of n points is worth, before a profile's weights.

    `worth` float64[n] is 0..1 inside of a window and -1..0 outside; `window` int64[n] is the number of the window a
    point lies in, OUTSIDE, or PROBATION where nothing counts; `windows` their number; `inside` bool[n] is true in a
    window, counted or not.
    """

    worth: Floats
    window: NDArray[np.int64]
    windows: int
    inside: NDArray[np.bool_]


def probation(points: int) -> int:
    """Points at the beginning that do not count: 15 %, of 5,000 at most.

    >>> probation(4032), probation(22_695)
    (604, 750)
    """
    return int(PROBATION_SHARE * min(points, PROBATION_OF))


def sigmoid(position: Floats) -> Floats:
    """Worth of an alarm at a position in window widths, 0 being the window's end: 2 / (1 + e^5x) - 1, -1 beyond 3."""
    return np.where(position > 3.0, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(position, 3.0))) - 1.0)


def mark(ts: NDArray[np.int64], windows: Sequence[tuple[int, int]]) -> Marked:
    """What an alarm at each point of a series is worth; `ts` int64[n] ascending, `windows` from and to, both included.

    A point after a window is judged by its distance from the last one, in that window's width.
    """
    points = np.arange(len(ts))
    worth, window = np.full(len(ts), -1.0), np.full(len(ts), OUTSIDE)
    bounds = sorted((int(left), int(right)) for left, right in (np.searchsorted(ts, pair) for pair in windows))
    for number, (left, right) in enumerate(bounds):
        width = right - left + 1
        after = points > right
        worth[after] = sigmoid((points[after] - right) / max(width - 1, 1))
        inside = (points >= left) & (points <= right)
        worth[inside] = sigmoid(-(right - points[inside] + 1) / width) / sigmoid(np.array(-1.0))
        window[inside] = number
    inside_any = window >= 0
    window[: probation(len(ts))] = PROBATION
    return Marked(worth, window, len(bounds), inside_any)


class NabRow(msgspec.Struct, frozen=True, kw_only=True):
    """One detector on the benchmark's scale: 0 without any alarm, 100 perfect.

    The interval is the 95 % bootstrap interval of `standard` over series; `vus_pr` the mean over series with windows.
    """

    name: str
    standard: float
    interval: tuple[float, float]
    low_false_positives: float
    low_false_negatives: float
    vus_pr: float
    series: int
    note: str = ""


class Curve(NamedTuple):
    """Raw score at every threshold: `threshold` descends, from infinite (no alarm) on."""

    threshold: Floats
    raw: Floats

    @property
    def best(self) -> float:
        """The threshold with the highest score, the highest of several."""
        return float(self.threshold[np.argmax(self.raw)])


def sweep(scores: Sequence[Floats], marked: Sequence[Marked], profile: Profile) -> Curve:
    """Raw scores of several series at all thresholds; a point alarms where its score reaches the threshold.

    A window counts once, with its most valuable alarm; each alarm outside counts.
    """
    deltas = [_gains(*pair, profile) for pair in zip(scores, marked, strict=True)]
    score, delta = np.concatenate(scores), np.concatenate(deltas)
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True)) if len(order) else order
    raw = np.cumsum(delta[order])[last] + _null(marked, profile)
    return Curve(np.append(np.inf, score[order][last]), np.append(_null(marked, profile), raw))


def raw_score(scores: Sequence[Floats], marked: Sequence[Marked], profile: Profile, threshold: float) -> float:
    """The raw score of several series at one threshold."""
    alarms = [np.where(score >= threshold, 1.0, 0.0) for score in scores]
    curve = sweep(alarms, marked, profile)
    return float(curve.raw[curve.threshold >= 1.0][-1])


def normalised(raw: float, marked: Sequence[Marked], profile: Profile) -> float:
    """On the published scale: 0 without any alarm, 100 with every window found at its first point and nothing else."""
    null = _null(marked, profile)
    perfect = profile.found * sum(series.windows for series in marked)
    return 100.0 * (raw - null) / (perfect - null)


def _null(marked: Sequence[Marked], profile: Profile) -> float:
    return -profile.missed * sum(series.windows for series in marked)


def _gains(score: Floats, marked: Marked, profile: Profile) -> Floats:
    """What each point adds to the raw score once it alarms, all points with a higher score having alarmed before."""
    gains = np.where(marked.window == OUTSIDE, profile.false * marked.worth, 0.0)
    for number in range(marked.windows):
        inside = np.flatnonzero(marked.window == number)
        ranked = inside[np.argsort(-score[inside], kind="stable")]
        reached = np.maximum.accumulate(np.append(-profile.missed, profile.found * marked.worth[ranked]))
        gains[ranked] = np.diff(reached)
    return gains

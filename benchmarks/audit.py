"""How far the audit's estimate of recall can be believed: simulated runs whose truth is known.

A fleet of 5,000 vehicles over 90 days, 2 % of the vehicles a month with a fault of some weeks, found with a chance that
grows with its size, inspected only where it alarms or the audit draws it. `python -m benchmarks audit` prints how often
the interval covers the truth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from anomaly.feedback.audit import Estimate, Faults, estimate
from anomaly.feedback.sampling import AUDIT, drawn
from anomaly.telemetry.text import Text
from benchmarks.world import Worlds


class Size(NamedTuple):
    """What is simulated."""

    vehicles: int = 5_000
    days: int = 90
    share: float = 0.01
    faults_a_month: float = 0.02


class Run(NamedTuple):
    """The truth of one run, and what the platform says of itself."""

    recall: float
    found: Estimate


def simulate(size: Size, seed: int) -> Run:
    """One run; the audit is drawn by the product's own hash of vehicle and day."""
    rng = np.random.default_rng(seed)
    count = rng.binomial(size.vehicles, size.faults_a_month * size.days / 30)
    vehicle = rng.choice(size.vehicles, count, replace=False)
    length = np.clip(rng.lognormal(np.log(18), 0.5, count).astype(int), 2, size.days)
    start = rng.integers(0, size.days - length + 1)
    severity = rng.normal(0, 1, count)
    detected = rng.random(count) < 1 / (1 + np.exp(-(0.6 + 1.2 * severity)))
    met = np.zeros(count, np.int64)
    hashes = Text.of([f"{seed}-{number}" for number in vehicle]).crc32()
    for fault in range(count):
        days = np.arange(start[fault], start[fault] + length[fault], dtype=np.int64)
        met[fault] = drawn(np.repeat(hashes[fault], len(days)), days, size.share, AUDIT).sum()
    known = detected | (met > 0)
    faults = Faults(detected[known], length[known].astype(np.int64), met[known])
    return Run(float(detected.mean()), estimate(faults, size.share))


class Coverage(NamedTuple):
    """Of so many runs: how often each interval covers the truth, and the median width of the audit's."""

    runs: int
    audit: int
    naive: int
    width: float


def coverage(size: Size, runs: int) -> Coverage:
    """Simulate `runs` runs with seeds 0, 1, ..."""
    found = [simulate(size, seed) for seed in range(runs)]
    intervals = [run.found.recall for run in found]
    naive = [run.found.naive_recall for run in found]
    widths = [(one.high or 0.0) - (one.low or 0.0) for one in intervals]
    return Coverage(
        runs,
        sum((one.low or 0.0) <= run.recall <= (one.high or 0.0) for one, run in zip(intervals, found, strict=True)),
        sum((one.low or 0.0) <= run.recall <= (one.high or 0.0) for one, run in zip(naive, found, strict=True)),
        float(np.median(widths)),
    )


def run(_worlds: Worlds) -> list[str]:
    """The full size, as lines."""
    found = coverage(Size(), 100)
    return [
        f"100 runs of 5,000 vehicles x 90 days, audit 1 %: the audit's interval covers the truth in {found.audit}, the "
        f"naive one in {found.naive}; median width of the audit's {found.width:.2f}"
    ]

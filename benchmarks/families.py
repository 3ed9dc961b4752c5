"""Which family when? `python -m benchmarks.families`, on the turbofan sets.

Medians over splits 0-4 of lead (cycles from the first alarm to the failure), false alarms per 1,000 healthy cycles
and least share detected, on test engines; and the CPU of a score a reading, in batches of 1,024 on one thread, by
ONNX Runtime and by the fitted estimator (NumPy and scikit-learn) on the same rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from anomaly.detectors.onnx import OnnxDetector
from anomaly.engine.model import Model
from anomaly.fleet import Fleet
from benchmarks.learner import DATA, fleet_of
from training.backtest import backtest
from training.families import FAMILIES, Evidence
from training.figures import Figures
from training.fit import fit
from training.graph import padded
from training.history import History, Sources, load_history, split_vehicles

BATCH, ROWS, REPEATS = 1_024, 8_192, 9
WIDTHS = (16, 60)


class Judged(NamedTuple):
    """One split: figures of its test engines, and how far the export is from the estimator."""

    figures: Figures
    parity: float


def judge(fleet: Fleet, history: History, number: int) -> Judged:
    """Train and judge as `train --split` and `backtest --split` do."""
    split = split_vehicles(history.names, 0, number)
    trained = fit(fleet, history.of([*split.train, *split.validation]), split, 0)
    detector = OnnxDetector(trained.onnx, trained.frame.signals)
    model = Model("t/1", "d", detector, trained.k, trained.q_fleet, trained.policy)
    return Judged(backtest(fleet, trained.frame, model, history.of(split.test)).figures, trained.parity)


def row(family: str, fleet: Fleet, history: History) -> str:
    """The family's line for one data set."""
    made = msgspec.structs.replace(fleet, model=msgspec.structs.replace(fleet.model, family=family))
    judged = [judge(made, history, number) for number in range(5)]
    lead = np.median([each.figures.lead for each in judged])
    alarms = np.median([each.figures.false_alarms_per_1000_days for each in judged])
    detected = min(each.figures.detected for each in judged)
    parity = max(each.parity for each in judged)
    return f"lead {lead:5.1f}   false alarms {alarms:4.2f}   detected {detected:4.2f}   parity {parity:.0e}"


def evidence(signals: int) -> Evidence:
    """Correlated evidence, a quarter of it late, as much as a small fleet has."""
    rng = np.random.default_rng(signals)
    noise = np.cov(rng.normal(size=(4 * signals, signals)), rowvar=False)
    late = np.arange(ROWS) % 4 == 0
    features = np.zeros((ROWS, padded(signals)))
    features[:, :signals] = 0.2 * rng.multivariate_normal(np.zeros(signals), noise, ROWS)
    features[late, 0] += 1.0
    return Evidence(features.astype(np.float32).astype(np.float64), ~late, late, noise, signals, 0)


def cost_ns(score: Callable[[Any], object], rows: NDArray[Any]) -> float:
    """CPU nanoseconds a row, in batches of 1,024: the median of 9 repeats."""
    seen = []
    for _ in range(REPEATS):
        start = time.process_time_ns()
        for at in range(0, len(rows), BATCH):
            score(rows[at : at + BATCH])
        seen.append((time.process_time_ns() - start) / len(rows))
    return float(np.median(seen))


def costs(family: str, signals: int) -> str:
    """What a score costs by ONNX Runtime, and by the estimator."""
    made = evidence(signals)
    fitted = FAMILIES[family].fit(made)
    served = OnnxDetector(fitted.onnx, [f"s{j}" for j in range(signals)])
    ours, theirs = cost_ns(served.score, made.features.astype(np.float32)), cost_ns(fitted.score, made.features)
    size = len(fitted.onnx) / 1_024
    return f"ONNX {ours:5,.0f} ns   estimator {theirs:6,.0f} ns   {theirs / ours:4.1f}x   {size:,.0f} KiB"


def main() -> None:
    """Print both tables."""
    with threadpool_limits(1):
        for signals in WIDTHS:
            for family in FAMILIES:
                print(f"{signals} signals  {family:17}", costs(family, signals), flush=True)
    for name in ("FD001", "FD002"):
        path = DATA / f"train_{name}.parquet"
        fleet = fleet_of(path)
        history = load_history(fleet, Sources(path))
        for family in FAMILIES:
            print(f"{name}  {family:17}", row(family, fleet, history), flush=True)


if __name__ == "__main__":
    main()

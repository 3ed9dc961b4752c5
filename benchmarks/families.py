"""Which family when? `python -m benchmarks.families`, on the turbofan sets and on the sample fleet.

Each family of several streams on evidence, on wide features where it takes them, and under a boosted label term. On
the turbofan sets medians over splits 0-4 of lead (cycles from the first alarm to the failure), false alarms per 1,000
healthy cycles and least share detected, on test engines; on the sample fleet the same of split 0 in days, and the lead
of the episode that runs at the end; and the CPU of a score a reading, in batches of 1,024 on one thread, by the model
as the engine runs it and by the fitted estimator (NumPy and scikit-learn) on the same rows.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from anomaly.detectors.onnx import OnnxDetector
from anomaly.engine.frame import BLOCKS
from anomaly.engine.model import Model
from anomaly.fleet import Fleet
from benchmarks.learner import DATA, fleet_of
from training.backtest import backtest
from training.families import FAMILIES, Evidence
from training.figures import Figures
from training.fit import fit
from training.graph import padded
from training.history import History, Sources, load_history, split_vehicles
from training.sample import find_sample

BATCH, ROWS, REPEATS = 1_024, 8_192, 9


class Choice(NamedTuple):
    """What `[model]` of a fleet file says."""

    family: str
    features: Literal["evidence", "wide"] = "evidence"
    label_term: Literal["logistic", "boosting"] = "logistic"

    def __str__(self) -> str:
        return f"{self.family:17}{self.features:9}{self.label_term:9}"


SEVERAL = [family for family in FAMILIES if family != "conformal"]
CHOICES = [
    *(Choice(family) for family in SEVERAL),
    *(Choice(family, "wide") for family in SEVERAL if family != "distance"),
    *(Choice(family, "evidence", "boosting") for family in SEVERAL),
]


class Judged(NamedTuple):
    """One split: figures of its test engines, and how far the export is from the estimator."""

    figures: Figures
    parity: float


def judge(fleet: Fleet, history: History, number: int) -> Judged:
    """Train and judge as `train --split` and `backtest --split` do."""
    split = split_vehicles(history.names, 0, number)
    trained = fit(fleet, history.of([*split.train, *split.validation]), split, 0)
    detector = OnnxDetector(trained.onnx, trained.frame.signals)
    lines = trained.k, trained.q_fleet, trained.policy, trained.checks
    model = Model("t/1", "d", detector, *lines, detector.abrupt)
    return Judged(backtest(fleet, trained.frame, model, history.of(split.test)).figures, trained.parity)


def with_choice(fleet: Fleet, choice: Choice) -> Fleet:
    """The fleet file with another `[model]`."""
    return msgspec.structs.replace(fleet, model=msgspec.structs.replace(fleet.model, **choice._asdict()))


def sample_row(choice: Choice, fleet: Fleet, history: History) -> str:
    """The line of a choice for the sample fleet."""
    found = judge(with_choice(fleet, choice), history, 0).figures
    leads = f"lead {found.lead:4.1f} days, of the last episode {found.lead_running:4.1f}"
    alarms = f"false alarms {found.false_alarms_per_1000_days:4.2f}"
    return f"detected {found.detected:4.0%} of {found.faults}   {leads}   {alarms}   {found.vehicles} vehicles"


def row(choice: Choice, fleet: Fleet, history: History) -> str:
    """The line of a choice for one data set."""
    judged = [judge(with_choice(fleet, choice), history, number) for number in range(5)]
    lead = np.median([each.figures.lead for each in judged])
    alarms = np.median([each.figures.false_alarms_per_1000_days for each in judged])
    detected = min(each.figures.detected or 0.0 for each in judged)
    parity = max(each.parity for each in judged)
    return f"lead {lead:5.1f}   false alarms {alarms:4.2f}   detected {detected:4.2f}   parity {parity:.0e}"


def evidence(columns: int, choice: Choice) -> Evidence:
    """Correlated features, a quarter of them late, as many as a small fleet has; `columns` are those of all blocks."""
    rng = np.random.default_rng(columns)
    noise = np.cov(rng.normal(size=(4 * columns, columns)), rowvar=False)
    late = np.arange(ROWS) % 4 == 0
    features = np.zeros((ROWS, padded(columns)))
    features[:, :columns] = 0.2 * rng.multivariate_normal(np.zeros(columns), noise, ROWS)
    features[late, 0] += 1.0
    blocks = len(BLOCKS[choice.features])
    features = features.astype(np.float32).astype(np.float64)
    return Evidence(features, ~late, late, ~late, noise, 0.05, columns // blocks, 0, blocks, choice.label_term)


def cost_ns(score: Callable[[Any], object], rows: NDArray[Any]) -> float:
    """CPU nanoseconds a row, in batches of 1,024: the median of 9 repeats."""
    seen = []
    for _ in range(REPEATS):
        start = time.process_time_ns()
        for at in range(0, len(rows), BATCH):
            score(rows[at : at + BATCH])
        seen.append((time.process_time_ns() - start) / len(rows))
    return float(np.median(seen))


def costs(choice: Choice, columns: int) -> str:
    """What a score costs by the model as the engine runs it, and by the estimator."""
    made = evidence(columns, choice)
    fitted = FAMILIES[choice.family].fit(made)
    served = OnnxDetector(fitted.onnx, [f"s{j}" for j in range(made.signals)])
    ours, theirs = cost_ns(served.score, made.features.astype(np.float32)), cost_ns(fitted.score, made.features)
    size = len(fitted.onnx) / 1_024
    return f"model {ours:5,.0f} ns   estimator {theirs:6,.0f} ns   {theirs / ours:4.1f}x   {size:,.0f} KiB"


def sample() -> None:
    """Print the table of the sample fleet."""
    with tempfile.TemporaryDirectory(prefix="anomaly-bench-") as folder:
        found = find_sample(None, Path(folder))
        history = load_history(found.fleet, Sources(found.readings, found.events, found.labels))
        for choice in CHOICES:
            print(f"sample {choice}", sample_row(choice, found.fleet, history), flush=True)


def main() -> None:
    """Print all tables."""
    with threadpool_limits(1):
        for choice in CHOICES:
            for columns in (60,) if choice.features == "wide" else (16, 60):
                print(f"{choice} {columns} columns ", costs(choice, columns), flush=True)
    for name in ("FD001", "FD002"):
        path = DATA / f"train_{name}.parquet"
        fleet = fleet_of(path)
        history = load_history(fleet, Sources(path))
        for choice in CHOICES:
            print(f"{name}  {choice}", row(choice, fleet, history), flush=True)
    sample()


if __name__ == "__main__":
    main()

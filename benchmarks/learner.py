"""Should the learner scale the threshold or the distance? `python -m benchmarks.learner`, on the turbofan sets.

Means over five splits on test engines, with the distance alone (no label term): lead in cycles, false alarms per 1,000
healthy cycles, share detected.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly import settings
from anomaly.cli.init import Request, fleet_file
from anomaly.engine.model import ThresholdPolicy
from anomaly.feedback.history import HEALTHY
from anomaly.fleet import Fleet
from anomaly.telemetry.survey import survey
from anomaly.thresholds.adaptive import AdaptiveThreshold
from training.figures import Decided, headline, vehicle_days
from training.frame import fit_frame, noise_covariance, normalised
from training.history import History, Sources, load_history, split_vehicles
from training.matrix import build_matrix
from training.tail import fit_tail
from training.threshold import choose_k

Floats = NDArray[np.float64]
DATA = Path(os.environ.get("ANOMALY_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "cmapss"


def fleet_of(path: Path) -> Fleet:
    """The fleet file that `init` writes, run to failure."""
    made = settings.parse(fleet_file(Request(path, "unit", "cycle", "t"), survey(path, "unit", "cycle")), Fleet, "t")
    return msgspec.structs.replace(made, history=msgspec.structs.replace(made.history, run_to_failure=True))


def tracked(values: Floats, codes: NDArray[np.int64], warm: NDArray[np.bool_], start: float) -> Floats:
    """Each vehicle's own quantile over the fleet's, before each value, by the product's learner."""
    learners: dict[int, AdaptiveThreshold] = {}
    factor = np.ones(len(values))
    for row, (value, code) in enumerate(zip(values.tolist(), codes.tolist(), strict=True)):
        if code not in learners:
            learners[code] = AdaptiveThreshold(None, 1.0, start, ThresholdPolicy.from_adaptation(0.2))
        factor[row] = learners[code].threshold
        if warm[row]:
            learners[code].update(value)
    return factor


def judge(fleet: Fleet, history: History, number: int) -> dict[str, tuple[float, float, float]]:
    """Lead, false alarms and share detected of the three variants on one split."""
    split = split_vehicles(history.names, 0, number)
    train = history.of(split.train)
    values, healthy = train.batch.values.astype(np.float64), train.health == HEALTHY
    frame = fit_frame(fleet, values, train.codes, healthy, 0)
    noise = noise_covariance(normalised(fleet, frame, values, train.codes), train.codes, healthy)
    precision = np.linalg.inv(0.95 * noise + 0.05 * np.diag(np.diag(noise)) + 1e-6 * np.eye(len(noise)))
    matrix = build_matrix(fleet, frame, history)
    evidence = matrix.features[:, : len(noise)].astype(np.float64)
    distance = np.sqrt(np.einsum("ij,jk,ik->i", evidence, precision, evidence))
    codes, health, ts = history.codes[matrix.kept], history.health[matrix.kept], history.batch.ts[matrix.kept]
    test = np.isin(codes, [code for code, name in enumerate(history.names) if name in set(split.test)])
    fitted = (health == HEALTHY) & matrix.warm & ~test
    tail = fit_tail(distance[fitted], "distance")
    nats = tail.nats(distance)
    start = [float(np.quantile(values[fitted], 0.95)) for values in (nats, distance)]
    levels = {
        "frozen": nats,
        "learner on the threshold": nats / tracked(nats, codes, matrix.warm, start[0]),
        "learner on the distance": tail.nats(distance / tracked(distance, codes, matrix.warm, start[1])),
    }
    order = np.lexsort((ts, codes))
    days = len(vehicle_days(codes[order], ts[order], fitted[order], fleet.ticks_per_day))
    found = {}
    for name, level in levels.items():
        level32 = level.astype(np.float32)
        k = choose_k(level32[fitted], codes[fitted], matrix.rank[fitted], fleet.alerts.gap, days / 1_000)
        columns = (codes, ts, matrix.warm & (level32 > k), matrix.warm, health)
        figures = headline(Decided(*(column[test] for column in columns), history.of(split.test).faults), fleet)
        found[name] = (figures.lead or 0.0, figures.false_alarms_per_1000_days, figures.detected or 0.0)
    return found


if __name__ == "__main__":
    for name in ("FD001", "FD002"):
        path = DATA / f"train_{name}.parquet"
        fleet = fleet_of(path)
        history = load_history(fleet, Sources(path))
        splits = [judge(fleet, history, number) for number in range(5)]
        for variant in splits[0]:
            lead, alarms, detected = np.mean([split[variant] for split in splits], axis=0)
            print(f"{name} {variant:26} lead {lead:5.1f}, false alarms {alarms:.2f}, detected {detected:.2f}")

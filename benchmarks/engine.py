"""The engine alone, from a batch of columns to decisions: cost of a reading, of a batch, of a vehicle."""

from __future__ import annotations

import time

import msgspec
import numpy as np

from anomaly.engine.engine import Engine
from anomaly.engine.model import Arm
from benchmarks.scorer import World
from benchmarks.stream import stream

BATCH = 1_024


class Engine10k(msgspec.Struct):
    """CPU time of the engine on 10,000 vehicles of 10 signals in batches of 1,024, model included."""

    ns_a_reading: float
    batch_p50_ms: float
    batch_p99_ms: float
    state_bytes_a_vehicle: float
    checkpoint_ms: float


def run(made: World) -> Engine10k:
    """Three quarters of the readings warm the vehicles up, the rest is measured."""
    batch = stream(10_000, 40, seed=2).batch
    engine = Engine(made.fleet, made.frame)
    engine.use([Arm("champion", 1.0, made.model)], lambda _vehicle: 0)
    used_s = []
    for start in range(0, len(batch), BATCH):
        part = batch.rows(start, start + BATCH)
        started_s = time.process_time()
        engine.decide(part)
        used_s.append(time.process_time() - started_s)
    engine.snapshot()
    engine.decide(batch.rows(0, BATCH))
    started_s = time.process_time()
    blob = engine.snapshot()
    checkpoint_s = time.process_time() - started_s
    measured = np.array(used_s[3 * len(used_s) // 4 : -1])
    return Engine10k(
        ns_a_reading=round(float(np.median(measured)) / BATCH * 1e9),
        batch_p50_ms=round(float(np.median(measured)) * 1e3, 3),
        batch_p99_ms=round(float(np.quantile(measured, 0.99)) * 1e3, 3),
        state_bytes_a_vehicle=round(len(blob) / 10_000),
        checkpoint_ms=round(checkpoint_s * 1e3, 2),
    )

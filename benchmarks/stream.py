"""The stream that everything is measured on: 10 signals a vehicle, 3 regime signals, JSON of some 290 bytes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly import settings
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch

SIGNALS = (
    "egt_c",
    "coolant_c",
    "oil_kpa",
    "battery_v",
    "fuel_lph",
    "boost_kpa",
    "vibration",
    "accel",
    "tyre_kpa",
    "iat_c",
)
REGIME = ("rpm", "load", "ambient_c")
LEVEL = np.array([512, 90, 300, 13.8, 35, 140, 2, 1, 230, 31.0])
SPREAD = np.array([30, 8, 40, 0.4, 5, 12, 0.3, 0.3, 10, 4.0])
PLACES = np.random.default_rng(1).uniform([800, 5, -10], [4200, 95, 35], (6, 3))
STEP_MS = 60_000


class Bench(NamedTuple):
    """A fleet file and its readings, each vehicle once a minute."""

    fleet: Fleet
    batch: Batch


def fleet() -> Fleet:
    """The fleet file of the benchmark."""
    tables = "".join(f"[signals.{name}]\n" for name in SIGNALS)
    text = f"""
[fleet]
name = "bench"
vehicle = "vehicle"
time = "ts"
time_unit = "ms"
{tables}
[context]
regime = {list(REGIME)}
"""
    return settings.parse(text, Fleet, "bench")


def stream(vehicles: int, rounds: int, seed: int = 0) -> Bench:
    """`rounds` readings of each of `vehicles` vehicles, in order of time."""
    rng = np.random.default_rng(seed)
    count = vehicles * rounds
    who = np.tile(np.arange(vehicles), rounds)
    regime = rng.integers(0, len(PLACES), count)
    signals = LEVEL + SPREAD * (rng.normal(size=(count, 10)) + 0.3 * (regime[:, None] - 2.5))
    places = PLACES[regime] + rng.normal(size=(count, 3)) * [40, 2, 1]
    values: NDArray[np.float32] = np.round(np.hstack([signals, places]), 3).astype(np.float32)
    ts = 1_760_000_000_000 + np.repeat(np.arange(rounds), vehicles) * STEP_MS + who % STEP_MS
    names = [f"VH-{number:07d}" for number in who]
    return Bench(fleet(), Batch.of(names, ts, values, {"region": [None] * count}, np.arange(count)))

"""A small fleet, frame and model for the engine's tests: two regimes, three signals, cohorts by type."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomaly import settings
from anomaly.engine.engine import Engine
from anomaly.engine.frame import Frame
from anomaly.engine.model import Arm, Model, ThresholdPolicy
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch

FLEET = """
[fleet]
name = "test"
vehicle = "vehicle"
time = "ts"
time_unit = "s"
[signals.a]
min = -50.0
max = 50.0
[signals.b]
max_step = 30.0
missing = "previous"
[signals.c]
stuck_after = 3
[context]
regime = ["load"]
cohort = ["type"]
[quality]
silent_after = 5
[baseline]
burn_in = 6
[alerts]
gap = 2
"""


class Norm:
    """A scorer with the sums in a fixed order: the Euclidean length of the evidence, as nats."""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Length of the evidence, times 4."""
        total = np.zeros(len(features), np.float32)
        for column in range(features.shape[1]):
            total += features[:, column] * features[:, column]
        return np.sqrt(total) * np.float32(4)

    def contributions(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Shares of the squares."""
        squares = features[:, :3] ** 2
        return squares / np.maximum(squares.sum(axis=1, keepdims=True), np.float32(1e-9))


def fleet(text: str = FLEET) -> Fleet:
    """The fleet file above."""
    return settings.parse(text, Fleet, "fleet.toml")


def frame(**changes: object) -> Frame:
    """A frame that fits it."""
    values = {
        "signals": ("a", "b", "c"),
        "regime": ("load",),
        "center": ((0.0,), (1.0,)),
        "scale": (0.5,),
        "mean": ((0.0, 10.0, -5.0), (5.0, 20.0, 0.0)),
        "sd": ((1.0, 2.0, 1.0), (1.5, 2.0, 0.5)),
        "prior": (0.1, 0.0, -0.1),
        "gain": ((0.9, 0.05, 0.0), (0.05, 0.8, 0.0), (0.0, 0.0, 0.7)),
        "burn_in": 6,
        "time_constant": 4,
        "cohort": ("type",),
        "period": 60,
    }
    return Frame(**(values | changes))


def arm(adaptation: float = 0.2, digest: str = "m1", k: float = 3.0, q_fleet: float = 2.0) -> Arm:
    """An arm whose model scores by `Norm`."""
    policy = ThresholdPolicy.from_adaptation(adaptation)
    return Arm("champion", 1.0, Model("test/1", digest, Norm(), k, q_fleet, policy))


def engine(*arms: Arm, text: str = FLEET, wide: bool = False) -> Engine:
    """An engine with these arms, or the default one; `wide`: with six features a signal."""
    made = Engine(fleet(text), frame(features="wide" if wide else "evidence"))
    made.use(arms or [arm()], lambda vehicle: sum(vehicle.encode()) % max(len(arms), 1))
    return made


def stream(seed: int, count: int, vehicles: int = 45) -> Batch:
    """A stream with all that may happen: one vehicle far more often, shifts, gaps, late, double and wild times."""
    rng = np.random.default_rng(seed)
    who = rng.integers(0, vehicles, count) * (rng.random(count) < 0.6)
    ts = np.sort(rng.integers(0, 4 * count, count))
    late = rng.random(count) < 0.1
    ts = ts - late * rng.integers(0, 50, count)
    ts = ts + (rng.random(count) < 0.01) * 10**9
    load = rng.integers(0, 2, count)
    made = frame()
    values = np.array(made.mean)[load] + np.array(made.sd)[load] * rng.normal(size=(count, 3))
    values[:, 0] += np.where((who == 1) & (np.arange(count) > count // 2), 6.0, 0.0)
    values[:, 2] = np.where(rng.random(count) < 0.2, -5.0, values[:, 2])
    values[rng.random((count, 3)) < 0.1] = np.nan
    values[rng.random((count, 3)) < 0.02] = np.inf
    values[rng.random((count, 3)) < 0.02] = 99.0
    table = np.column_stack([values, np.where(rng.random(count) < 0.1, np.nan, load)]).astype(np.float32)
    names = [f"v{number}" for number in who]
    context = {"type": [f"t{number % 2}" for number in who], "region": [None] * count}
    return Batch.of(names, ts.astype(np.int64), table, context, np.arange(count))


def whole(engine: Engine) -> list[bytes]:
    """All pages of an engine's state."""
    return [engine.page(number) for number in range(-1, engine.pages)]

"""Sensors that fail while their vehicle is well: what they show then is no fault of the vehicle."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from anomaly.simulator.config import DAY_MS, SimulationConfig, whole_seconds
from anomaly.simulator.faults import NEVER
from anomaly.simulator.signals import SCORED
from anomaly.simulator.streams import Purpose, stream
from anomaly.simulator.vehicles import Floats, Ints

STUCK, NOISE, OFFSET, DROPOUT, UNIT = range(5)
SENSOR_CODES = ("sensor_stuck", "sensor_noise", "sensor_offset", "sensor_dropout", "sensor_unit")


class Sensors(NamedTuple):
    """The sensor of each of V vehicles that fails, all [V]: `kind` -1 where none does, times then NEVER.

    From `begin` until `end` the sensor of signal `signal` is stuck, adds `size` times its noise, is off by `size` times
    it, misses seven values in ten, or reports in the wrong unit. At `end` it is exchanged for one like it was before.
    """

    kind: Ints
    signal: Ints
    begin: Ints
    end: Ints
    size: Floats


def wear_out(seed: int, numbers: range, config: SimulationConfig) -> Sensors:
    """Draw which sensors of the vehicles `numbers` fail after the history, each from a stream of its own."""
    u = np.array([stream(seed, Purpose.SENSORS, number).random(6) for number in numbers])
    fails = u[:, 0] < config.sensor_faults
    after = float(config.end_ms - config.train_until_ms)
    begin = config.train_until_ms + whole_seconds((0.15 + 0.6 * u[:, 1]) * after)
    end = begin + whole_seconds((5.0 + 15.0 * u[:, 2]) * DAY_MS)
    kind = (u[:, 3] * len(SENSOR_CODES)).astype(np.int64)
    far = 8.0 + 12.0 * u[:, 5]
    return Sensors(
        kind=np.where(fails, kind, -1),
        signal=(u[:, 4] * len(SCORED)).astype(np.int64),
        begin=np.where(fails, begin, NEVER),
        end=np.where(fails, end, NEVER),
        size=np.where(kind == NOISE, far, np.where(u[:, 2] < 0.5, -far, far)),
    )

"""What happens to readings on their way: values lost, sensors out for days, readings twice or too late."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.simulator.config import DAY_MS, SimulationConfig
from anomaly.simulator.physics import Floats
from anomaly.simulator.signals import CHANNELS, SCORED
from anomaly.simulator.streams import Purpose, stream

Ints = NDArray[np.int64]

OUTAGE_SHARE = 0.05
"""Share of vehicles that lose one signal for some days."""


class Delivery(NamedTuple):
    """How the readings of V vehicles arrive, all [V, T]: `lost` [V, T, channels] values, `delay_ms`, `twice`."""

    lost: NDArray[np.bool_]
    delay_ms: Ints
    twice: NDArray[np.bool_]


def deliver(seed: int, numbers: range, ts: Ints, config: SimulationConfig) -> Delivery:
    """Send the readings at `ts` of the vehicles `numbers`, each by a stream of its own."""
    streams = [stream(seed, Purpose.TRANSPORT, number) for number in numbers]
    outage = np.array([rng.random(4) for rng in streams])
    u = np.array([rng.random((ts.shape[1], 3), dtype=np.float32) for rng in streams])
    gone = np.array([rng.random((ts.shape[1], len(CHANNELS)), dtype=np.float32) for rng in streams])
    lost = gone < config.dropout
    _lose_signals(lost, outage, ts, config)
    late = u[:, :, 0] < config.late
    steps = 1 + (3.0 * u[:, :, 1]).astype(np.int64)
    return Delivery(lost, np.where(late, steps * config.step_ms, 0), u[:, :, 2] < config.duplicates)


def _lose_signals(lost: NDArray[np.bool_], u: Floats, ts: Ints, config: SimulationConfig) -> None:
    """Mark in `lost` the days in which one signal of a vehicle is out."""
    if config.dropout == 0.0:
        return
    for vehicle in np.flatnonzero(u[:, 0] < OUTAGE_SHARE):
        begin = config.start_ms + u[vehicle, 1] * (config.end_ms - config.start_ms)
        end = begin + (1.0 + 4.0 * u[vehicle, 2]) * DAY_MS
        signal = int(u[vehicle, 3] * len(SCORED))
        lost[vehicle, (ts[vehicle] >= begin) & (ts[vehicle] < end), signal] = True

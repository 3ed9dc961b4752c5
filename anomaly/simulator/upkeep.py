"""What is done to vehicles that is no fault: services, new tyres, exchanged sensors, repairs, weeks of standing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.simulator.config import DAY_MS, SimulationConfig, whole_seconds
from anomaly.simulator.faults import CODES, NEVER, Faults
from anomaly.simulator.physics import Floats
from anomaly.simulator.signals import SCORED
from anomaly.simulator.streams import Purpose, stream

Ints = NDArray[np.int64]

TYRES_SHARE, SENSOR_SHARE, PARKED_SHARE = 0.08, 0.06, 0.08
"""Shares of vehicles that get new tyres, a new sensor, or a long pause within the span."""


class Upkeep(NamedTuple):
    """What is done to V vehicles; times int64 ms, NEVER where it is not done.

    `since_first` and `interval` [V] are the ms from the start to the first service and between two of them.
    `tyres` [V] is when the wheels are changed, `tyre_step` [V, 4] what that does in kPa. `sensor` [V] is when the
    sensor of signal `sensor_signal` [V] is exchanged, `sensor_step` [V] the change in standard deviations of its
    noise. From `parked` until `parked_until` [V] nothing is driven.
    """

    since_first: Ints
    interval: Ints
    tyres: Ints
    tyre_step: Floats
    sensor: Ints
    sensor_signal: Ints
    sensor_step: Floats
    parked: Ints
    parked_until: Ints

    def days_since_service(self, ts: Ints, start_ms: int) -> Floats:
        """Days [V, T] since the last service, which for the first one lies before the start."""
        interval = self.interval[:, None]
        return ((ts - start_ms - self.since_first[:, None]) % interval) / DAY_MS


class Event(NamedTuple):
    """One thing done to a vehicle, as the stream of vehicle events has it."""

    vehicle: int
    ts: int
    kind: str
    detail: str


def plan(seed: int, numbers: range, config: SimulationConfig) -> Upkeep:
    """Plan the upkeep of the vehicles `numbers`, each from a stream of its own."""
    streams = [stream(seed, Purpose.UPKEEP, number) for number in numbers]
    u = np.array([rng.random(10) for rng in streams])
    own = np.array([rng.standard_normal(5) for rng in streams])
    span = config.end_ms - config.start_ms
    at = config.start_ms + whole_seconds((0.1 + 0.85 * u[:, 0:3]) * span)
    interval = whole_seconds((150.0 + 100.0 * u[:, 3]) * DAY_MS)
    parked = np.where(u[:, 4] < PARKED_SHARE, at[:, 2], NEVER)
    pause = whole_seconds((3.0 + 9.0 * u[:, 5]) * DAY_MS)
    return Upkeep(
        since_first=whole_seconds(u[:, 6] * interval),
        interval=interval,
        tyres=np.where(u[:, 7] < TYRES_SHARE, at[:, 0], NEVER),
        tyre_step=7.0 * own[:, :4],
        sensor=np.where(u[:, 8] < SENSOR_SHARE, at[:, 1], NEVER),
        sensor_signal=(u[:, 9] * len(SCORED)).astype(np.int64),
        sensor_step=np.sign(own[:, 4]) * (1.0 + np.abs(own[:, 4])),
        parked=parked,
        parked_until=np.where(parked == NEVER, NEVER, np.minimum(parked, NEVER - pause) + pause),
    )


def events(upkeep: Upkeep, faults: Faults, numbers: range, config: SimulationConfig) -> list[Event]:
    """Everything done to the vehicles `numbers` within the span, by vehicle and time; none while one is away."""
    found = [*_services(upkeep, config), *_once(upkeep), *_repairs(faults)]
    kept = [
        event._replace(vehicle=numbers[event.vehicle])
        for event in found
        if config.start_ms <= event.ts < config.end_ms and not _away(faults, event)
    ]
    return sorted(kept)


def _services(upkeep: Upkeep, config: SimulationConfig) -> list[Event]:
    planned = []
    for vehicle, (first, interval) in enumerate(zip(upkeep.since_first, upkeep.interval, strict=True)):
        times = range(config.start_ms + int(first), config.end_ms, int(interval))
        planned += [Event(vehicle, ts, "service", "scheduled service") for ts in times]
    return planned


def _once(upkeep: Upkeep) -> list[Event]:
    names = list(SCORED)
    tyres = [Event(v, int(ts), "service", "new tyres") for v, ts in enumerate(upkeep.tyres)]
    sensors = [
        Event(v, int(ts), "sensor", f"new sensor: {names[signal]}")
        for v, (ts, signal) in enumerate(zip(upkeep.sensor, upkeep.sensor_signal, strict=True))
    ]
    return [*tyres, *sensors]


def _repairs(faults: Faults) -> list[Event]:
    failed = np.flatnonzero(faults.kind >= 0).tolist()
    return [
        Event(v, int(faults.repaired[v]), "service", f"repair: {CODES[faults.kind[v]]}")
        if faults.repaired[v] != NEVER
        else Event(v, int(faults.failure[v]) + DAY_MS, "retired", f"not repaired: {CODES[faults.kind[v]]}")
        for v in failed
    ]


def _away(faults: Faults, event: Event) -> bool:
    """Whether the vehicle stands broken; what ends that (repair, retirement) still happens."""
    failure, repaired = faults.failure[event.vehicle], faults.repaired[event.vehicle]
    return event.kind != "retired" and bool(failure <= event.ts < repaired)

"""What happens to vehicles that is no fault of theirs: services, tyres, sensors, firmware, routes, pauses, clocks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.simulator.config import DAY_MS, SimulationConfig, whole_seconds
from anomaly.simulator.faults import NEVER
from anomaly.simulator.signals import CHARGING_VOLTAGE, FUEL_TRIM, SCORED
from anomaly.simulator.streams import Purpose, stream
from anomaly.simulator.vehicles import Floats, Ints, Vehicles

TYRES_SHARE, SENSOR_SHARE, ROUTE_SHARE, PARKED_SHARE, CLOCK_SHARE, OUTAGE_SHARE = 0.08, 0.06, 0.06, 0.08, 0.03, 0.05
"""Shares of vehicles to which each happens once within the span, where `upkeep` is 1."""
EXCHANGED, SERVICED, UPDATED = range(3)
"""Why the values of a vehicle's sensors step: the second axis of `step_at` and `step`."""
STEPS = 3
FIRMWARE_TYPE = 1
FIRMWARE_STEP = {FUEL_TRIM: 3.0, CHARGING_VOLTAGE: -2.5}
"""What the new version does to the values, in standard deviations of their noise."""
FIRMWARE_AT, ROLLOUT_DAYS = 0.4, 4.0
"""When it comes, as a share of the time after the history, and how long until all vehicles have it."""
SERVICE_SIGNALS = 3
"""Signals that such a service moves, each by 2 to 5 standard deviations of its noise."""


class Upkeep(NamedTuple):
    """What is done to V vehicles, for the kernels; times int64 ms [V], NEVER where it is not done.

    `since_first` and `interval` are the ms from the start to the first service and between two of them. At `tyres` the
    wheels are changed, which changes their pressures by `tyre_step` [V, 4] kPa. At `step_at` [V, STEPS] all later
    values move by `step` [V, STEPS, signals], in standard deviations of their noise. From `parked` until `parked_until`
    nothing is driven; from `route` on another mix of regimes; from `skewed` until `skewed_until` the clock is wrong by
    `skew_ms`; from `outage` until `outage_until` the signal `outage_signal` is missing.
    """

    since_first: Ints
    interval: Ints
    tyres: Ints
    tyre_step: Floats
    step_at: Ints
    step: NDArray[np.float32]
    parked: Ints
    parked_until: Ints
    route: Ints
    skewed: Ints
    skewed_until: Ints
    skew_ms: Ints
    outage: Ints
    outage_until: Ints
    outage_signal: Ints


def plan(seed: int, numbers: range, vehicles: Vehicles, config: SimulationConfig) -> Upkeep:
    """Plan the upkeep of the vehicles `numbers`, each from a stream of its own."""
    streams = [stream(seed, Purpose.UPKEEP, number) for number in numbers]
    u = np.array([rng.random((3, 8)) for rng in streams])
    own = np.array([rng.standard_normal((2, len(SCORED))) for rng in streams])
    when, chance, size = u[:, 0], u[:, 1], u[:, 2]
    span = float(config.end_ms - config.start_ms)
    at = config.start_ms + whole_seconds((0.1 + 0.85 * when) * span)

    def once(share: float, which: int) -> Ints:
        return np.where(chance[:, which] < config.upkeep * share, at[:, which], NEVER)

    tyres, exchanged, route = once(TYRES_SHARE, 0), once(SENSOR_SHARE, 1), once(ROUTE_SHARE, 2)
    parked, skewed, outage = once(PARKED_SHARE, 3), once(CLOCK_SHARE, 4), once(OUTAGE_SHARE, 5)
    interval = whole_seconds((150.0 + 100.0 * size[:, 0]) * DAY_MS)
    step_at, step = _steps(exchanged, u, own, vehicles, config)
    return Upkeep(
        since_first=whole_seconds(size[:, 1] * interval),
        interval=interval,
        tyres=tyres,
        tyre_step=7.0 * np.ascontiguousarray(own[:, 1, :4]),
        step_at=step_at,
        step=step,
        parked=parked,
        parked_until=_later(parked, 3.0 + 9.0 * size[:, 2]),
        route=route,
        skewed=skewed,
        skewed_until=_later(skewed, 4.0 + 12.0 * size[:, 3]),
        skew_ms=np.where(size[:, 4] < 0.5, -3_600_000, 3_600_000),
        outage=outage,
        outage_until=_later(outage, 1.0 + 4.0 * size[:, 5]),
        outage_signal=(size[:, 6] * len(SCORED)).astype(np.int64),
    )


def _later(begin: Ints, days: Floats) -> Ints:
    lasts = whole_seconds(days * DAY_MS)
    return np.where(begin == NEVER, NEVER, np.minimum(begin, NEVER - lasts) + lasts)


def _steps(
    exchanged: Ints, u: Floats, own: Floats, vehicles: Vehicles, config: SimulationConfig
) -> tuple[Ints, NDArray[np.float32]]:
    """When and by how much sensors' values move: by an exchange, by a service, by new firmware."""
    count, names = len(own), list(SCORED)
    after = config.end_ms - config.train_until_ms
    step = np.zeros((count, STEPS, len(names)), np.float32)
    sensor = (u[:, 2, 7] * len(names)).astype(np.int64)
    size = own[np.arange(count), 0, sensor]
    step[np.arange(count), EXCHANGED, sensor] = np.sign(size) * (1.0 + np.abs(size))
    moved = np.argsort(own[:, 1], axis=1)[:, :SERVICE_SIGNALS]
    sizes = np.take_along_axis(own[:, 0], moved, axis=1)
    np.put_along_axis(step[:, SERVICED], moved, np.sign(sizes) * np.minimum(2.0 + 1.5 * np.abs(sizes), 5.0), axis=1)
    for name, moves in FIRMWARE_STEP.items():
        step[:, UPDATED, names.index(name)] = moves
    serviced = config.train_until_ms + whole_seconds((0.2 + 0.6 * u[:, 0, 6]) * after)
    updated = config.train_until_ms + whole_seconds(FIRMWARE_AT * after + ROLLOUT_DAYS * DAY_MS * u[:, 0, 7])
    step_at = np.stack(
        [
            exchanged,
            np.where(u[:, 1, 6] < config.service_step, serviced, NEVER),
            np.where((vehicles.kind == FIRMWARE_TYPE) & config.firmware, updated, NEVER),
        ],
        axis=1,
    )
    return step_at, step

"""How vehicles are used, and in which weather: regimes, season, day and night, fronts that pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.simulator.config import DAY_MS, SimulationConfig
from anomaly.simulator.physics import Floats
from anomaly.simulator.streams import Purpose, stream
from anomaly.simulator.vehicles import Vehicles

Ints = NDArray[np.int64]

# idle, urban, motorway, mountain, towing: the order of REGIMES
SPEED_KMH = np.array([3.0, 31.0, 113.0, 54.0, 82.0])
SPEED_SPREAD_KMH = np.array([0.8, 3.5, 5.0, 4.0, 4.0])
LOAD_PERCENT = np.array([17.0, 31.0, 47.0, 70.0, 84.0])
LOAD_SPREAD_PERCENT = np.array([1.0, 2.5, 3.0, 3.0, 3.0])
SPEED_RPM = np.array([820.0, 1_650.0, 2_600.0, 2_350.0, 2_500.0])
ELECTRIC_LOAD = np.array([1.25, 1.05, 0.85, 0.9, 0.9])
"""Share of the alternator's output that is asked for."""
STAY_MS = 40 * 60_000
"""Mean time in one regime."""


class Region(NamedTuple):
    """The climate of a region: mean, half the span of the year and of a day, spread of passing fronts."""

    mean_c: float
    season_c: float
    day_c: float
    front_c: float


REGIONS = (Region(7.0, 9.0, 3.5, 3.0), Region(8.0, 9.5, 5.5, 3.5), Region(15.0, 7.0, 3.5, 2.0))


class Usage(NamedTuple):
    """What V vehicles did at T readings: `ts` int64 ms, the rest float64, all [V, T]; `rpm` is the engine's."""

    ts: Ints
    speed_kmh: Floats
    load: Floats
    rpm: Floats
    electric_load: Floats
    ambient_c: Floats


def readings_ms(start_ms: int, step_ms: int, phase: Floats, jitter: Floats) -> Ints:
    """Times of reading [V, T], whole seconds, strictly increasing: each vehicle with a phase of its own."""
    step_s = step_ms // 1_000
    offset = (0.7 * phase[:, None] + 0.3 * jitter) * (step_s - 1)
    return start_ms + 1_000 * (np.arange(jitter.shape[1]) * step_s + offset.astype(np.int64))


def regimes(pick: Floats, change: Floats, mix: Floats, step_ms: int) -> Ints:
    """The regime of each reading [V, T]: stays for `STAY_MS` in the mean, then drawn from the vehicle's mix."""
    drawn = (pick[:, :, None] >= mix[:, None, :-1]).sum(axis=2)
    changed = change < 1.0 - np.exp(-step_ms / STAY_MS)
    changed[:, 0] = True
    last = np.maximum.accumulate(np.where(changed, np.arange(pick.shape[1]), 0), axis=1)
    return np.take_along_axis(drawn, last, axis=1)


def weather(seed: int, region: int, ts: Ints, config: SimulationConfig) -> Floats:
    """Air temperature of a region at the times `ts`: season, time of day, and fronts of a few days."""
    climate = REGIONS[region]
    day = ts / DAY_MS
    front = _fronts(seed, region, config.days) * climate.front_c
    midnights = config.start_ms / DAY_MS + np.arange(config.days + 2)
    season = climate.season_c * np.cos(2.0 * np.pi * (day - HOTTEST_DAY) / 365.2425)
    hour = climate.day_c * np.cos(2.0 * np.pi * (day - HOTTEST_HOUR / 24.0))
    passing = np.interp(day.ravel(), midnights, front).reshape(day.shape)
    return climate.mean_c + season + hour + passing


HOTTEST_DAY = 200.0
HOTTEST_HOUR = 15.0


def _fronts(seed: int, region: int, days: int) -> Floats:
    """A stationary first-order process of unit spread, one value a day, memory of about four days."""
    shock = stream(seed, Purpose.WEATHER, region).standard_normal(days + 2)
    keep = float(np.exp(-1.0 / 4.0))
    level = shock.copy()
    for day in range(1, len(level)):
        level[day] = keep * level[day - 1] + np.sqrt(1.0 - keep**2) * shock[day]
    return level


def use(seed: int, numbers: range, vehicles: Vehicles, config: SimulationConfig) -> Usage:
    """Use the vehicles `numbers` for the whole span, each by a stream of its own."""
    steps = config.steps
    streams = [stream(seed, Purpose.USAGE, number) for number in numbers]
    phase = np.array([rng.random() for rng in streams])
    chance = np.array([rng.random((steps, 3)) for rng in streams])
    ts = readings_ms(config.start_ms, config.step_ms, phase, chance[:, :, 0])
    regime = regimes(chance[:, :, 1], chance[:, :, 2], vehicles.mix, config.step_ms)
    own = np.array([rng.standard_normal((steps, 4)) for rng in streams])
    ambient = np.empty(ts.shape)
    for region in range(len(REGIONS)):
        here = vehicles.region == region
        ambient[here] = weather(seed, region, ts[here], config)
    speed = SPEED_KMH[regime] + SPEED_SPREAD_KMH[regime] * own[:, :, 0]
    load = (LOAD_PERCENT[regime] + LOAD_SPREAD_PERCENT[regime] * own[:, :, 1]) / 100.0
    return Usage(
        ts=ts,
        speed_kmh=np.maximum(speed, 0.0),
        load=np.clip(load * vehicles.load[:, None], 0.02, 1.0),
        rpm=SPEED_RPM[regime] * (1.0 + 0.04 * own[:, :, 2]),
        electric_load=ELECTRIC_LOAD[regime],
        ambient_c=ambient + 1.5 * own[:, :, 3],
    )

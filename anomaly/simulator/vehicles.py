"""The vehicles: types, regions, and what makes each vehicle unlike every other of its type."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.simulator.config import SimulationConfig, whole_seconds
from anomaly.simulator.streams import Purpose, stream

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REGIMES = ("idle", "urban", "motorway", "mountain", "towing")
"""What a vehicle can be doing; every array over regimes has this order."""


class VehicleType(NamedTuple):
    """One model of vehicle: the middle of what its vehicles are. `mix` weighs the regimes."""

    name: str
    heat_kw: float
    radiator_kw_per_k: float
    thermostat_c: float
    battery_ohm: float
    battery_ah: float
    charging_v: float
    tyre_kpa: tuple[float, float]
    roughness: float
    brake_k: float
    mix: tuple[float, ...]


TYPES = (
    VehicleType("hatchback", 52.0, 0.92, 86.0, 0.0078, 52.0, 14.3, (225.0, 215.0), 1.0, 1.0,
                (0.12, 0.50, 0.28, 0.10, 0.0)),
    VehicleType("estate", 64.0, 1.12, 88.0, 0.0066, 68.0, 14.4, (240.0, 250.0), 0.9, 0.9,
                (0.10, 0.30, 0.45, 0.11, 0.04)),
    VehicleType("van", 76.0, 1.35, 83.0, 0.0060, 80.0, 14.1, (330.0, 380.0), 1.3, 1.25,
                (0.20, 0.40, 0.22, 0.08, 0.10)),
)  # fmt: skip
REGION_NAMES = ("north", "alps", "coast")
COHORTS = ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))
"""Type and region of the vehicles in turn: six pairs, so that a fleet of 200 has 33 of each."""
MOUNTAIN_WEIGHT = (0.3, 3.0, 1.0)
"""How much more of the mountain a vehicle of each region sees."""
FIRST_WEEKS_SHARE = 0.25
"""Newcomers start within this first share of the time after the history."""


class Vehicles(NamedTuple):
    """V vehicles as they were built, for the kernels; all [V] but `tyre_kpa` [V, 4] and `mix` [V, 2, regimes].

    `key` uint64 is that of the vehicle's random numbers, `phase` 0..1 its place in the rhythm, `first` the ms from
    which on it reports, `newcomer` 0: was there from the start, 1: starts later, 2: starts later and ill. `mix` is
    cumulative, before and after a change of route.
    """

    key: NDArray[np.uint64]
    kind: Ints
    region: Ints
    newcomer: Ints
    first: Ints
    phase: Floats
    load: Floats
    style: Floats
    heat_kw: Floats
    radiator_kw_per_k: Floats
    thermostat_c: Floats
    battery_ohm: Floats
    battery_ah: Floats
    charging_v: Floats
    pump: Floats
    trim_percent: Floats
    roughness: Floats
    brake_k: Floats
    brake_slip: Floats
    tyre_kpa: Floats
    mix: Floats


def build(seed: int, numbers: range, config: SimulationConfig) -> Vehicles:
    """Build the vehicles `numbers`; each comes from a stream of its own."""
    streams = [stream(seed, Purpose.BUILD, number) for number in numbers]
    key = np.array([rng.integers(1 << 63, dtype=np.uint64) for rng in streams])
    share = np.array([rng.random(3) for rng in streams])
    drawn = np.array([rng.standard_normal(17 + 2 * len(REGIMES)) for rng in streams])
    own, usage = config.spread * drawn[:, :17], drawn[:, 17:]
    kind, region = np.array(COHORTS)[np.array(numbers) % len(COHORTS)].T
    newcomer = np.where(share[:, 1] < config.born_ill, 2, share[:, 1] < config.born_ill + config.newcomers)
    later = FIRST_WEEKS_SHARE * share[:, 2] * (config.end_ms - config.train_until_ms)
    return Vehicles(
        key=key,
        kind=np.ascontiguousarray(kind),
        region=np.ascontiguousarray(region),
        newcomer=newcomer.astype(np.int64),
        first=np.where(newcomer > 0, config.train_until_ms + whole_seconds(later), config.start_ms),
        phase=share[:, 0].copy(),
        load=np.exp(0.08 * own[:, 0]),
        style=np.exp(0.10 * own[:, 1]),
        heat_kw=_of(kind, "heat_kw") * np.exp(0.05 * own[:, 2]),
        radiator_kw_per_k=_of(kind, "radiator_kw_per_k") * np.exp(0.06 * own[:, 3]),
        thermostat_c=_of(kind, "thermostat_c") + 2.0 * own[:, 4],
        battery_ohm=_of(kind, "battery_ohm") * np.exp(0.12 * own[:, 5]),
        battery_ah=_of(kind, "battery_ah") * np.exp(0.08 * own[:, 6]),
        charging_v=_of(kind, "charging_v") + 0.12 * own[:, 7],
        pump=np.exp(0.08 * own[:, 8]),
        trim_percent=2.5 * own[:, 9],
        roughness=_of(kind, "roughness") * np.exp(0.15 * own[:, 10]),
        brake_k=_of(kind, "brake_k") * np.exp(0.10 * own[:, 11]),
        brake_slip=np.exp(0.10 * own[:, 12]),
        tyre_kpa=np.repeat(np.array([one.tyre_kpa for one in TYPES])[kind], 2, axis=1) + 8.0 * own[:, 13:17],
        mix=np.stack([_mix(kind, region, usage[:, :5]), _mix(kind, region, usage[:, 5:])], axis=1),
    )


def _of(kind: Ints, field: str) -> Floats:
    return np.array([getattr(one, field) for one in TYPES])[kind]


def _mix(kind: Ints, region: Ints, own: Floats) -> Floats:
    """Cumulative shares [V, regimes] of how a vehicle is used."""
    weight = np.array([one.mix for one in TYPES])[kind] * np.exp(0.4 * own)
    weight[:, REGIMES.index("mountain")] *= np.array(MOUNTAIN_WEIGHT)[region]
    cumulative: Floats = np.cumsum(weight, axis=1)
    return cumulative / cumulative[:, -1:]

"""The vehicles: types, regions, and what makes each vehicle unlike every other of its type."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.simulator.physics import Floats
from anomaly.simulator.streams import Purpose, stream

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
    charging_v: float
    tyre_kpa: tuple[float, float]
    roughness: float
    mix: tuple[float, ...]


TYPES = (
    VehicleType("hatchback", 52.0, 0.92, 86.0, 0.0078, 14.3, (225.0, 215.0), 1.0, (0.12, 0.50, 0.28, 0.10, 0.0)),
    VehicleType("estate", 64.0, 1.12, 88.0, 0.0066, 14.4, (240.0, 250.0), 0.9, (0.10, 0.30, 0.45, 0.11, 0.04)),
    VehicleType("van", 76.0, 1.35, 83.0, 0.0060, 14.1, (330.0, 380.0), 1.3, (0.20, 0.40, 0.22, 0.08, 0.10)),
)
REGION_NAMES = ("north", "alps", "coast")
MOUNTAIN_WEIGHT = (0.3, 3.0, 1.0)
"""How much more of the mountain a vehicle of each region sees."""


class Vehicles(NamedTuple):
    """V vehicles as they were built; `cold_gauge_kpa` is [V, 4], `mix` [V, regimes] cumulative, the rest [V]."""

    kind: Ints
    region: Ints
    load: Floats
    heat_kw: Floats
    radiator_kw_per_k: Floats
    thermostat_c: Floats
    battery_ohm: Floats
    charging_v: Floats
    pump: Floats
    trim_percent: Floats
    roughness: Floats
    cold_gauge_kpa: Floats
    mix: Floats


def build(seed: int, numbers: range) -> Vehicles:
    """Build the vehicles `numbers`; each comes from a stream of its own."""
    streams = [stream(seed, Purpose.BUILD, number) for number in numbers]
    share = np.array([rng.random(2) for rng in streams])
    own = np.array([rng.standard_normal(13 + len(REGIMES)) for rng in streams])
    kind = (share[:, 0] * len(TYPES)).astype(np.int64)
    region = (share[:, 1] * len(REGION_NAMES)).astype(np.int64)
    return Vehicles(
        kind=kind,
        region=region,
        load=1.0 + 0.08 * own[:, 0],
        heat_kw=_of(kind, "heat_kw") * (1.0 + 0.05 * own[:, 1]),
        radiator_kw_per_k=_of(kind, "radiator_kw_per_k") * (1.0 + 0.06 * own[:, 2]),
        thermostat_c=_of(kind, "thermostat_c") + 2.0 * own[:, 3],
        battery_ohm=_of(kind, "battery_ohm") * np.exp(0.12 * own[:, 4]),
        charging_v=_of(kind, "charging_v") + 0.12 * own[:, 5],
        pump=np.exp(0.08 * own[:, 6]),
        trim_percent=2.5 * own[:, 7],
        roughness=_of(kind, "roughness") * np.exp(0.15 * own[:, 8]),
        cold_gauge_kpa=_fillings(kind, own[:, 9:13]),
        mix=_mix(kind, region, own[:, 13:]),
    )


def _of(kind: Ints, field: str) -> Floats:
    return np.array([getattr(one, field) for one in TYPES])[kind]


def _fillings(kind: Ints, own: Floats) -> Floats:
    """Cold pressures [V, 4]: front and rear as the type wants them, each wheel a little off."""
    nominal = np.array([one.tyre_kpa for one in TYPES])[kind]
    return np.repeat(nominal, 2, axis=1) + 8.0 * own


def _mix(kind: Ints, region: Ints, own: Floats) -> Floats:
    """Cumulative shares [V, regimes] of how a vehicle is used."""
    weight = np.array([one.mix for one in TYPES])[kind] * np.exp(0.4 * own)
    weight[:, REGIMES.index("mountain")] *= np.array(MOUNTAIN_WEIGHT)[region]
    cumulative: Floats = np.cumsum(weight, axis=1)
    return cumulative / cumulative[:, -1:]

"""From what a vehicle is, does and suffers to the values that its sensors show."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.simulator import physics
from anomaly.simulator import signals as names
from anomaly.simulator.faults import KINDS, Faults
from anomaly.simulator.physics import Floats
from anomaly.simulator.streams import Purpose, stream
from anomaly.simulator.upkeep import Upkeep
from anomaly.simulator.usage import Usage
from anomaly.simulator.vehicles import Vehicles

COOLANT_LAG_S, OIL_LAG_S = 600.0, 1_200.0

# What each fault has done by the time of the failure.
LOST_COOLING = 0.8
LOST_OIL_PRESSURE = 0.45
ADDED_RESISTANCE = 0.9
LOST_CHARGE_V = 0.9
ADDED_TRIM_PERCENT = 9.0
ADDED_ROUGHNESS = 1.1
LOST_TYRE = float(-np.log(0.6))
"""Integral of the leak rate: 40 % of the gauge pressure is gone."""

NATURAL_TYRE_LOSS_PER_DAY = 6e-5
OIL_AGEING_PER_DAY = 1.5e-4


class World(NamedTuple):
    """Everything that decides what sensors see of V vehicles at T readings."""

    vehicles: Vehicles
    usage: Usage
    faults: Faults
    upkeep: Upkeep
    service_days: Floats


def truth(world: World) -> dict[str, Floats]:
    """The physical value [V, T] of every channel, before any sensor."""
    ill = _severities(world)
    thermal = _temperatures(world, ill["coolant_loss"])
    usage, vehicles = world.usage, world.vehicles
    pump = vehicles.pump[:, None] * (1.0 - OIL_AGEING_PER_DAY * world.service_days)
    injector = ill["injector_drift"]
    return {
        **thermal,
        names.OIL_PRESSURE: physics.oil_pressure_kpa(
            usage.rpm, thermal[names.OIL_TEMPERATURE], pump * (1.0 - LOST_OIL_PRESSURE * ill["oil_pump_wear"])
        ),
        **_electrics(world, ill["battery_fade"], ill["alternator_wear"]),
        names.FUEL_TRIM: vehicles.trim_percent[:, None]
        + ADDED_TRIM_PERCENT * injector * (1.3 - usage.load)
        - 0.03 * (usage.ambient_c - 15.0),
        names.ROUGHNESS: vehicles.roughness[:, None] * (13.0 - 7.0 * usage.load) * (1.0 + ADDED_ROUGHNESS * injector),
        **_tyres(world, ill["tyre_leak"]),
        names.SPEED: usage.speed_kmh,
        names.LOAD: 100.0 * usage.load,
        names.AMBIENT: usage.ambient_c,
    }


def sense(world: World, seed: int, numbers: range) -> NDArray[np.float32]:
    """What the sensors of the vehicles `numbers` show, float32 [V, T, channels], rounded as they report it."""
    physical = truth(world)
    noise = np.array(
        [
            stream(seed, Purpose.NOISE, number).standard_normal((world.usage.ts.shape[1], len(names.SCORED)))
            for number in numbers
        ]
    )
    exchanged = world.usage.ts >= world.upkeep.sensor[:, None]
    shown = np.empty((*world.usage.ts.shape, len(names.CHANNELS)), np.float32)
    for j, (name, channel) in enumerate(names.CHANNELS.items()):
        value = physical[name]
        if name in names.SCORED:
            step = np.where(world.upkeep.sensor_signal == j, world.upkeep.sensor_step, 0.0)[:, None] * exchanged
            error = channel.noise * (noise[:, :, j] + step)
            value = value * (1.0 + error) if channel.relative else value + error
        shown[:, :, j] = np.round(np.clip(value, channel.low, channel.high), channel.decimals)
    return shown


def _severities(world: World) -> dict[str, Floats]:
    severity = world.faults.severity(world.usage.ts)
    return {kind.code: severity * (world.faults.kind == k)[:, None] for k, kind in enumerate(KINDS)}


def _temperatures(world: World, coolant_loss: Floats) -> dict[str, Floats]:
    """Heat of the engine against air and radiator, and the oil that follows the coolant."""
    usage, vehicles = world.usage, world.vehicles
    elapsed_s = np.diff(usage.ts, axis=1, prepend=usage.ts[:, :1]) / 1_000.0
    heat_kw = vehicles.heat_kw[:, None] * (0.04 + 0.8 * usage.load * usage.rpm / 2_500.0)
    airflow = 0.4 + 0.6 * (usage.speed_kmh / 110.0) ** 0.7
    radiator = vehicles.radiator_kw_per_k[:, None] * airflow * (1.0 - LOST_COOLING * coolant_loss)
    thermostat_c = np.broadcast_to(vehicles.thermostat_c[:, None], radiator.shape)
    settled_c = physics.coolant_equilibrium_c(heat_kw, usage.ambient_c, radiator, thermostat_c)
    coolant_c = physics.relax(settled_c, elapsed_s, COOLANT_LAG_S)
    oil_c = coolant_c + 2.0 + 18.0 * usage.load * usage.rpm / 2_500.0
    return {names.COOLANT: coolant_c, names.OIL_TEMPERATURE: physics.relax(oil_c, elapsed_s, OIL_LAG_S)}


def _electrics(world: World, fade: Floats, alternator_wear: Floats) -> dict[str, Floats]:
    """Battery and alternator: a weak alternator also leaves the battery less than full."""
    usage, vehicles = world.usage, world.vehicles
    battery_c = usage.ambient_c + 5.0
    resistance = physics.internal_resistance_ohm(vehicles.battery_ohm[:, None], battery_c)
    open_circuit_v = 12.65 - 0.4 * alternator_wear
    droop_v = LOST_CHARGE_V * alternator_wear * usage.electric_load
    charging_v = vehicles.charging_v[:, None] - 0.010 * (battery_c - 25.0) - droop_v
    cranking_v = physics.cranking_voltage_v(open_circuit_v, resistance * (1.0 + ADDED_RESISTANCE * fade), battery_c)
    return {names.CHARGING_VOLTAGE: charging_v, names.CRANKING_VOLTAGE: cranking_v}


def _tyres(world: World, leak: Floats) -> dict[str, Floats]:
    """Four tyres, one of which may leak; they warm up with speed and load."""
    usage, upkeep = world.usage, world.upkeep
    tyre_c = usage.ambient_c + 16.0 * usage.speed_kmh / 110.0 + 6.0 * usage.load
    changed = usage.ts >= upkeep.tyres[:, None]
    natural = NATURAL_TYRE_LOSS_PER_DAY * world.service_days
    pressures = {}
    for wheel, name in enumerate(names.TYRES):
        cold = world.vehicles.cold_gauge_kpa[:, wheel, None] + upkeep.tyre_step[:, wheel, None] * changed
        lost = natural + LOST_TYRE * leak * (world.faults.wheel == wheel)[:, None]
        pressures[name] = physics.tyre_pressure_kpa(cold, lost, tyre_c)
    return pressures

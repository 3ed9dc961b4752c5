"""The fleet on the road: what vehicles are, do and suffer, turned into what their sensors show. One pass, no arrays
made on the way; a reading depends on its vehicle and time alone, and on the warmth that the one before left."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomaly.compile import kernel, part
from anomaly.simulator import physics
from anomaly.simulator.climate import Climate
from anomaly.simulator.faults import Faults
from anomaly.simulator.sensors import DROPOUT, NOISE, OFFSET, STUCK, Sensors
from anomaly.simulator.signals import CHANNELS, SCORED
from anomaly.simulator.streams import normal, uniform
from anomaly.simulator.upkeep import STEPS, Upkeep
from anomaly.simulator.vehicles import Floats, Ints, Vehicles

DAY_MS, HOUR_MS, MINUTE_MS, LEG_MS = 86_400_000, 3_600_000, 60_000, 2_400_000
"""A leg is the time for which a vehicle stays in a regime; a minute that for which it keeps its speed and load."""
SIGNALS, COLUMNS, WHEELS = len(SCORED), len(CHANNELS), 4
COOLANT, OIL, OIL_PRESSURE, CHARGING, CRANKING, CHARGE, TRIM, ROUGHNESS, BRAKE, SLIP, TYRES = range(11)
SPEED, LOAD, AMBIENT = range(SIGNALS, COLUMNS)
"""Places of the signals in a row of values, in the order of `CHANNELS`."""
RPM, AIRFLOW, ELECTRIC_LOAD, SERVICE_DAYS, FAULT, EFFECT = range(COLUMNS, COLUMNS + 6)
"""Places behind them, for what no sensor shows: the room to work in has `ROOM` of both."""
ROOM = COLUMNS + 6
COOLANT_LAG_S, OIL_LAG_S = 600.0, 1_200.0
HOTTEST_HOUR = 15.0

# What each fault has done by the time of the failure.
LOST_COOLING, LOST_OIL_PRESSURE = 0.8, 0.45
ADDED_RESISTANCE, LOST_CAPACITY = 0.9, 0.55
LOST_VOLTAGE_V, LOST_CHARGE = 0.9, 14.0
ADDED_TRIM_PERCENT, ADDED_ROUGHNESS = 9.0, 1.1
WORN_BRAKE, LOST_FRICTION = 0.5, 0.45
LOST_TYRE = -math.log(0.6)
"""Integral of the leak rate: 40 % of the gauge pressure is gone."""
MOST = 0.95
"""No fault takes more than this share of what a part can do."""
FLEXING_C = 12.0
"""What a soft tyre warms up by flexing."""
MISFIRES, MISFIRE_ROUGHNESS, MISFIRE_TRIM = 0.7, 1.4, 5.0
"""Share of the readings under full load with misfires in them, and what those do."""
NATURAL_TYRE_LOSS_PER_DAY, OIL_AGEING_PER_DAY = 6e-5, 1.5e-4

KIND_COOLANT, KIND_BATTERY, KIND_TYRE, KIND_ALTERNATOR, KIND_INJECTOR = range(5)
KIND_PUMP, KIND_BRAKE, KIND_MISFIRE, KIND_HOSE = range(5, 9)
"""Places in `CODES`."""
# Lanes of random numbers; those from NOISE_LANE on belong to the signals.
JITTER, REGIME, SPEEDING, LOADING, REVVING, LOCAL_AIR, MISFIRING, LATE, TWICE, LOST, SHAKING = range(11)
NOISE_LANE = 16


class Habits(NamedTuple):
    """What the regimes are, each float64[regimes], and what the channels are, each float64[columns]."""

    speed_kmh: Floats
    speed_spread: Floats
    load: Floats
    load_spread: Floats
    rpm: Floats
    electric_load: Floats
    braking_c: Floats
    noise: Floats
    relative: Floats
    low: Floats
    high: Floats
    scale: Floats
    factor: Floats
    shift: Floats


def habits() -> Habits:
    """The regimes idle, urban, motorway, mountain, towing, and the channels in their order."""
    channels = list(CHANNELS.values())
    return Habits(
        speed_kmh=np.array([3.0, 31.0, 113.0, 54.0, 82.0]),
        speed_spread=np.array([0.8, 3.5, 5.0, 4.0, 4.0]),
        load=np.array([0.17, 0.31, 0.47, 0.70, 0.84]),
        load_spread=np.array([0.01, 0.025, 0.03, 0.03, 0.03]),
        rpm=np.array([820.0, 1_650.0, 2_600.0, 2_350.0, 2_500.0]),
        electric_load=np.array([1.25, 1.05, 0.85, 0.9, 0.9]),
        braking_c=np.array([6.0, 70.0, 55.0, 150.0, 130.0]),
        noise=np.array([one.noise for one in channels]),
        relative=np.array([float(one.relative) for one in channels]),
        low=np.array([one.low for one in channels]),
        high=np.array([one.high for one in channels]),
        scale=np.array([10.0**one.decimals for one in channels]),
        factor=np.array([one.wrong[0] for one in channels]),
        shift=np.array([one.wrong[1] for one in channels]),
    )


class Rules(NamedTuple):
    """The numbers of a config that matter here; `dropout` is the share of values, the others of readings."""

    start_ms: int
    step_ms: int
    strength: float
    dropout: float
    duplicates: float
    late: float


class World(NamedTuple):
    """Everything that decides what sensors see."""

    vehicles: Vehicles
    faults: Faults
    upkeep: Upkeep
    sensors: Sensors
    climate: Climate
    habits: Habits
    rules: Rules


class Warmth(NamedTuple):
    """What a vehicle's last reading leaves for the next, all [V]: temperatures, its time in ms (-1: none yet), and what
    a stuck sensor shows (NaN: not stuck yet)."""

    coolant_c: Floats
    oil_c: Floats
    last: Ints
    stuck: Floats


class Rows(NamedTuple):
    """Readings to be filled in, one a row: `ts` is what the vehicle's clock says, `arrival` when it comes, `twice` 1
    where it comes again a second later; `values` float32 [rows, columns]."""

    vehicle: NDArray[np.int32]
    ts: Ints
    arrival: Ints
    twice: NDArray[np.int8]
    values: NDArray[np.float32]


@kernel
def drive(world: World, first: int, steps: int, warmth: Warmth, into: Rows, physical: Floats) -> int:
    """Readings `first` up to `first + steps` of all vehicles, by vehicle and time; answers how many rows were filled.

    `physical` float64[ROOM] is room to work in: the values before any sensor, and what only physics sees.
    """
    rows = 0
    for v in range(world.vehicles.key.shape[0]):
        key = world.vehicles.key[v]
        for i in range(first, first + steps):
            share = 0.7 * world.vehicles.phase[v] + 0.3 * uniform(key, i, JITTER)
            seconds = int(share * (world.rules.step_ms // 1_000 - 1))
            t = world.rules.start_ms + i * world.rules.step_ms + 1_000 * seconds
            if reports(world, v, t):
                experience(world, v, i, t, warmth, physical)
                sense(world, v, i, t, warmth, physical)
                deliver(world, v, i, t, into, rows, physical)
                rows += 1
    return rows


@part
def reports(world: World, v: int, t: int) -> bool:
    """Whether a vehicle reports at `t`: it is in service, not broken or in the workshop, and not parked for long."""
    faults, upkeep = world.faults, world.upkeep
    broken = (faults.failure[v, 0] <= t < faults.repaired[v, 0]) or (faults.failure[v, 1] <= t < faults.repaired[v, 1])
    return t >= world.vehicles.first[v] and not broken and not upkeep.parked[v] <= t < upkeep.parked_until[v]


@part
def suffer(world: World, v: int, t: int, x: Floats) -> None:
    """Fill in which fault a vehicle has at `t` (-1: none), and how bad that is: 1 as at the failure."""
    faults = world.faults
    x[FAULT], x[EFFECT] = -1.0, 0.0
    for slot in range(2):
        onset, failure = faults.onset[v, slot], faults.failure[v, slot]
        if onset <= t < failure:
            share = np.float64(t - onset) / np.float64(failure - onset)
            floor = faults.floor[v, slot]
            x[FAULT] = faults.kind[v, slot]
            x[EFFECT] = world.rules.strength * (floor + (1.0 - floor) * share ** faults.shape[v, slot])


@part
def effect(x: Floats, kind: int) -> float:
    """How bad a fault of this kind is now, 0 where there is none."""
    return float(x[EFFECT]) if x[FAULT] == kind else 0.0


@part
def experience(world: World, v: int, i: int, t: int, warmth: Warmth, x: Floats) -> None:
    """Fill in the physical value of every channel."""
    use(world, v, t, x)
    suffer(world, v, t, x)
    engine(world, v, t, warmth, x)
    combustion(world, v, i, t, x)
    electrics(world, v, x)
    brakes(world, v, x)
    tyres(world, v, t, x)


@part
def use(world: World, v: int, t: int, x: Floats) -> None:
    """Fill in what the vehicle does, and in which weather."""
    vehicles, upkeep, habits = world.vehicles, world.upkeep, world.habits
    key, minute = vehicles.key[v], t // MINUTE_MS
    regime = regime_of(world, v, t)
    speed = habits.speed_kmh[regime] + habits.speed_spread[regime] * normal(key, minute, SPEEDING)
    load = habits.load[regime] + habits.load_spread[regime] * normal(key, minute, LOADING)
    x[SPEED] = max(speed, 0.0)
    x[LOAD] = 100.0 * min(max(load * vehicles.load[v], 0.02), 1.0)
    x[AMBIENT] = air(world.climate, vehicles.region[v], t, world.rules.start_ms)
    x[AMBIENT] += 1.5 * normal(key, t // HOUR_MS, LOCAL_AIR)
    x[RPM] = habits.rpm[regime] * (1.0 + 0.04 * normal(key, minute, REVVING))
    x[AIRFLOW] = 0.4 + 0.6 * math.sqrt(x[SPEED] / 110.0)
    x[ELECTRIC_LOAD] = habits.electric_load[regime]
    x[SERVICE_DAYS] = np.float64((t - world.rules.start_ms - upkeep.since_first[v]) % upkeep.interval[v]) / DAY_MS
    x[BRAKE] = habits.braking_c[regime] * vehicles.brake_k[v] * vehicles.style[v] * vehicles.load[v]


@part
def leg_of(world: World, v: int, t: int) -> int:
    """The number of the leg in which a vehicle is at `t`."""
    return (t + int(world.vehicles.phase[v] * LEG_MS)) // LEG_MS


@part
def regime_of(world: World, v: int, t: int) -> int:
    """What the vehicle is doing: drawn for each leg from the mix of its route."""
    mix, route = world.vehicles.mix, 1 if t >= world.upkeep.route[v] else 0
    pick, regime = uniform(world.vehicles.key[v], leg_of(world, v, t), REGIME), 0
    while regime < mix.shape[2] - 1 and pick >= mix[v, route, regime]:
        regime += 1
    return regime


@part
def air(climate: Climate, region: int, t: int, start_ms: int) -> float:
    """Air temperature of a region: day by day, and warmest in the afternoon."""
    day = np.float64(t - start_ms) / DAY_MS
    midnight = int(day)
    later = day - midnight
    mean = climate.air_c[region, midnight] * (1.0 - later) + climate.air_c[region, midnight + 1] * later
    return float(mean) + float(climate.day_c[region]) * math.cos(2.0 * math.pi * (later - HOTTEST_HOUR / 24.0))


@part
def engine(world: World, v: int, t: int, warmth: Warmth, x: Floats) -> None:
    """Heat of the engine against air and radiator, the oil that follows the coolant, and its pressure."""
    vehicles = world.vehicles
    lost = LOST_COOLING * (effect(x, KIND_COOLANT) + effect(x, KIND_HOSE))
    radiator = vehicles.radiator_kw_per_k[v] * x[AIRFLOW] * (1.0 - min(lost, MOST))
    work = 0.01 * x[LOAD] * x[RPM] / 2_500.0
    heat_kw = vehicles.heat_kw[v] * (0.04 + 0.8 * work)
    settled_c = physics.coolant_equilibrium_c(heat_kw, x[AMBIENT], radiator, vehicles.thermostat_c[v])
    first = warmth.last[v] < 0
    elapsed_s = 1e9 if first else np.float64(t - warmth.last[v]) / 1_000.0
    x[COOLANT] = physics.relaxed(warmth.coolant_c[v], settled_c, elapsed_s / COOLANT_LAG_S)
    x[OIL] = physics.relaxed(warmth.oil_c[v], x[COOLANT] + 2.0 + 18.0 * work, elapsed_s / OIL_LAG_S)
    warmth.coolant_c[v], warmth.oil_c[v], warmth.last[v] = x[COOLANT], x[OIL], t
    worn = min(LOST_OIL_PRESSURE * effect(x, KIND_PUMP), MOST)
    strength = vehicles.pump[v] * (1.0 - OIL_AGEING_PER_DAY * x[SERVICE_DAYS]) * (1.0 - worn)
    x[OIL_PRESSURE] = physics.oil_pressure_kpa(x[RPM], x[OIL], strength)


@part
def combustion(world: World, v: int, i: int, t: int, x: Floats) -> None:
    """Fuel trim and roughness: injectors that drift, and misfires that come in bursts, more of them under load."""
    vehicles, climate = world.vehicles, world.climate
    load = 0.01 * x[LOAD]
    injector = effect(x, KIND_INJECTOR)
    rough, trim = ADDED_ROUGHNESS * injector, ADDED_TRIM_PERCENT * injector * (1.3 - load)
    often = MISFIRES * effect(x, KIND_MISFIRE) * (0.4 + 0.6 * load)
    if often > 0.0 and uniform(vehicles.key[v], i, MISFIRING) < often:
        rough += MISFIRE_ROUGHNESS
        trim += MISFIRE_TRIM
    fuel = climate.fuel_percent[vehicles.region[v], (t - world.rules.start_ms) // DAY_MS]
    x[TRIM] = vehicles.trim_percent[v] + trim - 0.03 * (x[AMBIENT] - 15.0) + fuel
    x[ROUGHNESS] = vehicles.roughness[v] * (13.0 - 7.0 * load) * (1.0 + rough)


@part
def electrics(world: World, v: int, x: Floats) -> None:
    """Battery and alternator: a weak alternator also leaves the battery less than full."""
    vehicles, battery_c = world.vehicles, x[AMBIENT] + 5.0
    fade, worn = effect(x, KIND_BATTERY), effect(x, KIND_ALTERNATOR)
    resistance = physics.internal_resistance_ohm(vehicles.battery_ohm[v], battery_c) * (1.0 + ADDED_RESISTANCE * fade)
    x[CHARGING] = vehicles.charging_v[v] - 0.010 * (battery_c - 25.0) - LOST_VOLTAGE_V * worn * x[ELECTRIC_LOAD]
    x[CRANKING] = physics.cranking_voltage_v(12.65 - 0.4 * worn, resistance, battery_c)
    capacity_ah = vehicles.battery_ah[v] * (1.0 - min(LOST_CAPACITY * fade, MOST))
    x[CHARGE] = physics.charge_percent(capacity_ah, battery_c) - LOST_CHARGE * worn


@part
def brakes(world: World, v: int, x: Floats) -> None:
    """Heat of the discs, from the work that is already in its place, and slip of the wheels."""
    worn = effect(x, KIND_BRAKE)
    x[BRAKE] = physics.brake_c(x[AMBIENT], x[BRAKE], x[AIRFLOW], WORN_BRAKE * worn)
    x[SLIP] = physics.brake_slip_percent(world.vehicles.brake_slip[v], 0.01 * x[LOAD], min(LOST_FRICTION * worn, MOST))


@part
def tyres(world: World, v: int, t: int, x: Floats) -> None:
    """Four tyres, one of which may leak; they warm up with speed and load, and a soft one by flexing."""
    vehicles, upkeep = world.vehicles, world.upkeep
    tyre_c = x[AMBIENT] + 16.0 * x[SPEED] / 110.0 + 0.06 * x[LOAD]
    for wheel in range(WHEELS):
        leak = effect(x, KIND_TYRE) if wheel == world.faults.wheel[v] else 0.0
        cold = vehicles.tyre_kpa[v, wheel] + (upkeep.tyre_step[v, wheel] if t >= upkeep.tyres[v] else 0.0)
        lost = NATURAL_TYRE_LOSS_PER_DAY * x[SERVICE_DAYS] + LOST_TYRE * leak
        flexing_c = FLEXING_C * leak * x[SPEED] / 110.0
        x[TYRES + wheel] = physics.tyre_pressure_kpa(cold, lost, tyre_c + flexing_c)


@part
def sense(world: World, v: int, i: int, t: int, warmth: Warmth, x: Floats) -> None:
    """Turn physical values into what the sensors show: noise, steps, faults of their own, range, decimals."""
    habits, upkeep = world.habits, world.upkeep
    key, leg = world.vehicles.key[v], leg_of(world, v, t)
    for j in range(SIGNALS):
        error = normal(key, leg if j in (CRANKING, CHARGE) else i, NOISE_LANE + j)
        for k in range(STEPS):
            if t >= upkeep.step_at[v, k]:
                error += upkeep.step[v, k, j]
        x[j] += habits.noise[j] * error * (x[j] if habits.relative[j] > 0.0 else 1.0)
    bad = world.sensors.signal[v] if world.sensors.begin[v] <= t < world.sensors.end[v] else -1
    if bad >= 0:
        x[bad] = shaken(world, v, i, x[bad])
    for j in range(COLUMNS):
        x[j] = math.floor(min(max(x[j], habits.low[j]), habits.high[j]) * habits.scale[j] + 0.5) / habits.scale[j]
    if bad >= 0:
        x[bad] = distorted(world, v, i, x[bad], warmth)


@part
def shaken(world: World, v: int, i: int, value: float) -> float:
    """A value with what a sensor's noise or offset adds to it."""
    sensors, habits = world.sensors, world.habits
    kind, signal = sensors.kind[v], sensors.signal[v]
    if kind not in (NOISE, OFFSET):
        return value
    error = habits.noise[signal] * sensors.size[v] * (value if habits.relative[signal] > 0.0 else 1.0)
    return value + float(error) * (normal(world.vehicles.key[v], i, SHAKING) if kind == NOISE else 1.0)


@part
def distorted(world: World, v: int, i: int, shown: float, warmth: Warmth) -> float:
    """What a sensor that sticks, drops out or has the wrong unit reports in place of `shown`."""
    sensors, habits = world.sensors, world.habits
    kind, signal = sensors.kind[v], sensors.signal[v]
    if kind == STUCK:
        if math.isnan(warmth.stuck[v]):
            warmth.stuck[v] = shown
        return float(warmth.stuck[v])
    if kind == DROPOUT:
        return np.nan if uniform(world.vehicles.key[v], i, SHAKING) < 0.7 else shown
    if kind in (NOISE, OFFSET):
        return shown
    return float(habits.factor[signal] * shown + habits.shift[signal])


@part
def deliver(world: World, v: int, i: int, t: int, into: Rows, row: int, x: Floats) -> None:
    """Write a reading: its values with their gaps, what its clock says, when it comes, and whether twice."""
    upkeep, rules, key = world.upkeep, world.rules, world.vehicles.key[v]
    for j in range(COLUMNS):
        into.values[row, j] = np.float32(x[j])
    gap, chance, delay = uniform(key, i, LOST), uniform(key, i, LATE), 0
    if gap < rules.dropout * COLUMNS:
        into.values[row, int(gap / rules.dropout)] = np.float32(np.nan)
    if upkeep.outage[v] <= t < upkeep.outage_until[v]:
        into.values[row, upkeep.outage_signal[v]] = np.float32(np.nan)
    if chance < rules.late:
        delay = (1 + int(3.0 * chance / rules.late)) * rules.step_ms
    into.vehicle[row] = v
    into.ts[row] = t + (upkeep.skew_ms[v] if upkeep.skewed[v] <= t < upkeep.skewed_until[v] else 0)
    into.arrival[row] = t + delay
    into.twice[row] = np.int8(uniform(key, i, TWICE) < rules.duplicates)

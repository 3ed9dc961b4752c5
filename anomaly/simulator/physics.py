"""The laws that tie a vehicle's signals together, as kernels over numbers."""

from __future__ import annotations

import math

from anomaly.compile import kernel

KELVIN = 273.15
ATMOSPHERE_KPA = 101.3
COLD_FILL_C = 20.0
"""Temperature at which a tyre's cold pressure is stated."""
BLOCK_KW_PER_K = 0.05
THERMOSTAT_SPAN_K = 25.0
BOILING_C = 129.0
"""Boiling point of the coolant under the pressure of its cap."""
RELIEF_KPA = 560.0
NIGHT_AH = 6.0
"""Charge that a standing vehicle takes from its battery."""
SETTLED = 25.0
"""Time constants after which nothing is left of an old temperature."""


@kernel
def coolant_equilibrium_c(heat_kw: float, ambient_c: float, radiator_kw_per_k: float, thermostat_c: float) -> float:
    """Temperature at which the engine's heat equals what block and radiator give away.

    Solves `heat = (block + radiator * opening(T)) * (T - ambient)`, where the thermostat opens linearly from
    `thermostat_c` over `THERMOSTAT_SPAN_K`: closed, partly and fully open are three branches of one solution.
    At `BOILING_C` the coolant boils and takes the rest of the heat with it.
    """
    closed = ambient_c + heat_kw / BLOCK_KW_PER_K
    if closed <= thermostat_c:
        return closed
    slope = radiator_kw_per_k / THERMOSTAT_SPAN_K
    above = thermostat_c - ambient_c
    linear = BLOCK_KW_PER_K + slope * above
    root = linear * linear - 4.0 * slope * (BLOCK_KW_PER_K * above - heat_kw)
    lift = (math.sqrt(max(root, 0.0)) - linear) / (2.0 * slope)
    if lift >= THERMOSTAT_SPAN_K:
        return min(ambient_c + heat_kw / (BLOCK_KW_PER_K + radiator_kw_per_k), BOILING_C)
    return min(thermostat_c + lift, BOILING_C)


@kernel
def relaxed(before: float, target: float, elapsed: float) -> float:
    """What a first-order lag makes of `before` after `elapsed` time constants towards `target`; exact."""
    if elapsed >= SETTLED:
        return target
    return target + (before - target) * math.exp(-elapsed)


@kernel
def oil_pressure_kpa(rpm: float, oil_c: float, pump: float) -> float:
    """Pressure of a gear pump: rises with speed up to the relief valve, falls as the oil thins with heat."""
    delivery = 90.0 + 380.0 * (1.0 - math.exp(-rpm / 1_500.0))
    return min(delivery * math.exp(-0.009 * (oil_c - 95.0)) * pump, RELIEF_KPA)


@kernel
def internal_resistance_ohm(at_25c_ohm: float, battery_c: float) -> float:
    """Resistance of a lead-acid battery: Arrhenius, higher in the cold."""
    return at_25c_ohm * math.exp(1_000.0 * (1.0 / (battery_c + KELVIN) - 1.0 / (25.0 + KELVIN)))


@kernel
def cranking_voltage_v(open_circuit_v: float, resistance_ohm: float, battery_c: float) -> float:
    """Lowest voltage while the starter turns: Ohm's law, with a stiffer engine in the cold."""
    current_a = 190.0 * (1.0 + 0.006 * max(20.0 - battery_c, 0.0))
    return open_circuit_v - current_a * resistance_ohm


@kernel
def charge_percent(capacity_ah: float, battery_c: float) -> float:
    """State of charge after a night: the smaller and the colder a battery, the more of it the night takes."""
    usable_ah = capacity_ah * (1.0 - 0.006 * max(25.0 - battery_c, 0.0))
    return max(100.0 * (1.0 - NIGHT_AH / usable_ah), 0.0)


@kernel
def brake_c(ambient_c: float, work: float, airflow: float, worn: float) -> float:
    """Temperature of a disc: the heat of braking against the air that takes it away; a worn disc gets hotter."""
    return ambient_c + work * (1.0 + worn) / airflow


@kernel
def brake_slip_percent(own: float, load: float, worn: float) -> float:
    """Slip of the wheels at the driver's usual deceleration: inverse to the friction that wear has left."""
    return own * 5.0 * (1.0 + 0.5 * load) / max(1.0 - worn, 0.05)


@kernel
def tyre_pressure_kpa(cold_gauge_kpa: float, lost: float, tyre_c: float) -> float:
    """Gauge pressure of a tyre of constant volume by the ideal gas law.

    `cold_gauge_kpa` is the filling at `COLD_FILL_C`; `lost` the integral of the leak rate: a leak through a hole
    takes gauge pressure in proportion to itself, so that exp(-lost) of it is left.
    """
    cold_absolute = ATMOSPHERE_KPA + cold_gauge_kpa * math.exp(-lost)
    return cold_absolute * (tyre_c + KELVIN) / (COLD_FILL_C + KELVIN) - ATMOSPHERE_KPA

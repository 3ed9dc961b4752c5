"""The laws that tie a vehicle's signals together. All functions are elementwise over arrays of any equal shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

KELVIN = 273.15
ATMOSPHERE_KPA = 101.3
COLD_FILL_C = 20.0
"""Temperature at which a tyre's cold pressure is stated."""


def coolant_equilibrium_c(
    heat_kw: Floats, ambient_c: Floats, radiator_kw_per_k: Floats, thermostat_c: Floats
) -> Floats:
    """Temperature at which the engine's heat equals what block and radiator give away.

    Solves `heat = (block + radiator * opening(T)) * (T - ambient)`, where the thermostat opens linearly from
    `thermostat_c` over `THERMOSTAT_SPAN_K`: closed, partly and fully open are three branches of one solution.
    At `BOILING_C` the coolant boils and takes the rest of the heat with it.
    """
    slope = radiator_kw_per_k / THERMOSTAT_SPAN_K
    above = thermostat_c - ambient_c
    linear = BLOCK_KW_PER_K + slope * above
    root = linear**2 - 4.0 * slope * (BLOCK_KW_PER_K * above - heat_kw)
    lift = (np.sqrt(np.maximum(root, 0.0)) - linear) / (2.0 * slope)
    closed = ambient_c + heat_kw / BLOCK_KW_PER_K
    opened = ambient_c + heat_kw / (BLOCK_KW_PER_K + radiator_kw_per_k)
    balance = np.where(lift >= THERMOSTAT_SPAN_K, opened, thermostat_c + lift)
    return np.minimum(np.where(closed <= thermostat_c, closed, balance), BOILING_C)


BLOCK_KW_PER_K = 0.05
THERMOSTAT_SPAN_K = 25.0
BOILING_C = 129.0
"""Boiling point of the coolant under the pressure of its cap."""


def relax(target: Floats, elapsed_s: Floats, time_constant_s: float) -> Floats:
    """Follow `target` [vehicles, time] with a first-order lag: exact for a target that holds between readings.

    `elapsed_s` [vehicles, time] is the time since the reading before; the first reading starts settled.
    """
    keep = np.exp(-elapsed_s / time_constant_s)
    if target.shape[1] < 2 or float(keep[:, 1:].max()) < SETTLED:
        return target
    state = target.copy()
    for step in range(1, target.shape[1]):
        state[:, step] += keep[:, step] * (state[:, step - 1] - target[:, step])
    return state


SETTLED = 1e-9
"""Share of an old temperature below which the lag is nothing."""


def oil_pressure_kpa(rpm: Floats, oil_c: Floats, pump: Floats) -> Floats:
    """Pressure of a gear pump: rises with speed up to the relief valve, falls as the oil thins with heat."""
    delivery = 90.0 + 380.0 * (1.0 - np.exp(-rpm / 1_500.0))
    return np.minimum(delivery * np.exp(-0.009 * (oil_c - 95.0)) * pump, RELIEF_KPA)


RELIEF_KPA = 560.0


def internal_resistance_ohm(at_25c_ohm: Floats, battery_c: Floats) -> Floats:
    """Resistance of a lead-acid battery: Arrhenius, higher in the cold."""
    return at_25c_ohm * np.exp(1_000.0 * (1.0 / (battery_c + KELVIN) - 1.0 / (25.0 + KELVIN)))


def cranking_voltage_v(open_circuit_v: Floats, resistance_ohm: Floats, battery_c: Floats) -> Floats:
    """Lowest voltage while the starter turns: Ohm's law, with a stiffer engine in the cold."""
    current_a = 190.0 * (1.0 + 0.006 * np.maximum(20.0 - battery_c, 0.0))
    return open_circuit_v - current_a * resistance_ohm


def tyre_pressure_kpa(cold_gauge_kpa: Floats, lost: Floats, tyre_c: Floats) -> Floats:
    """Gauge pressure of a tyre of constant volume by the ideal gas law.

    `cold_gauge_kpa` is the filling at `COLD_FILL_C`; `lost` the integral of the leak rate: a leak through a hole
    takes gauge pressure in proportion to itself, so that exp(-lost) of it is left.
    """
    cold_absolute = ATMOSPHERE_KPA + cold_gauge_kpa * np.exp(-lost)
    return cold_absolute * (tyre_c + KELVIN) / (COLD_FILL_C + KELVIN) - ATMOSPHERE_KPA

"""The laws of the simulated vehicle hold for every vehicle and weather, not for an example."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from anomaly.simulator import physics

temperature = st.floats(-40.0, 50.0)


@given(st.floats(0.5, 120.0), temperature, st.floats(0.02, 3.0), st.floats(80.0, 92.0))
def test_heat_in_equals_heat_out(heat: float, ambient: float, radiator: float, thermostat: float) -> None:
    """Below boiling, block and radiator give away exactly the heat that the engine puts in."""
    inputs = [np.array([value]) for value in (heat, ambient, radiator, thermostat)]
    coolant = physics.coolant_equilibrium_c(*inputs)
    opening = np.clip((coolant - thermostat) / physics.THERMOSTAT_SPAN_K, 0.0, 1.0)
    out = (physics.BLOCK_KW_PER_K + radiator * opening) * (coolant - ambient)
    if coolant[0] < physics.BOILING_C:
        np.testing.assert_allclose(out, inputs[0], rtol=1e-9)
    else:
        assert out[0] <= heat * (1.0 + 1e-12)


@given(st.floats(150.0, 400.0), st.floats(0.0, 1.0), temperature, temperature)
def test_ideal_gas(cold: float, lost: float, one: float, other: float) -> None:
    """A tyre's absolute pressure is proportional to its absolute temperature, however much has leaked."""
    args = np.array([cold]), np.array([lost])
    absolute = [physics.tyre_pressure_kpa(*args, np.array([t])) + physics.ATMOSPHERE_KPA for t in (one, other)]
    ratio = (one + physics.KELVIN) / (other + physics.KELVIN)
    np.testing.assert_allclose(absolute[0] / absolute[1], ratio, rtol=1e-12)


@given(st.floats(150.0, 400.0), st.floats(0.0, 3.0))
def test_leak_ends_at_the_atmosphere(cold: float, lost: float) -> None:
    """A leak takes gauge pressure in proportion to itself: nothing below that of the air outside."""
    left = physics.tyre_pressure_kpa(np.array([cold]), np.array([lost]), np.array([physics.COLD_FILL_C]))
    np.testing.assert_allclose(left, cold * np.exp(-lost), rtol=1e-12, atol=1e-9)


@given(temperature, temperature, st.floats(0.004, 0.012))
def test_cold_cranks_lower(one: float, other: float, ohm: float) -> None:
    """The colder the battery, the higher its resistance and the lower the voltage while it cranks."""
    cold, warm = sorted([one, other])
    ohms = [physics.internal_resistance_ohm(np.array([ohm]), np.array([t])) for t in (cold, warm)]
    volts = [
        physics.cranking_voltage_v(np.array([12.6]), resistance, np.array([t]))
        for resistance, t in zip(ohms, (cold, warm), strict=True)
    ]
    assert ohms[0] >= ohms[1]
    assert volts[0] <= volts[1]


def test_lag_is_exact_between_readings() -> None:
    """A step in the target is followed as exp(-t / tau), however the time is cut into readings."""
    tau, end = 600.0, 1_800.0
    for parts in (1, 6, 60):
        target = np.full((1, parts + 1), 90.0)
        target[0, 0] = 20.0
        elapsed = np.full(target.shape, end / parts)
        reached = physics.relax(target, elapsed, tau)[0, -1]
        np.testing.assert_allclose(reached, 90.0 - 70.0 * np.exp(-end / tau), rtol=1e-12)


def test_oil_pressure_has_a_relief_valve() -> None:
    """Oil pressure rises with engine speed, falls with heat, and never exceeds the relief valve's."""
    rpm, oil = np.meshgrid(np.linspace(700.0, 6_000.0, 30), np.linspace(-30.0, 140.0, 30), indexing="ij")
    pressure = physics.oil_pressure_kpa(rpm, oil, np.ones_like(rpm))
    assert (np.diff(pressure, axis=0) >= 0.0).all()
    assert (np.diff(pressure, axis=1) <= 0.0).all()
    assert pressure.max() == physics.RELIEF_KPA

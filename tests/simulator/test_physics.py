"""The laws of the simulated vehicle hold for every vehicle and weather, not for an example."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anomaly.simulator import physics

temperature = st.floats(-40.0, 50.0)


@example(100.0, 20.0, 1.0, 86.0)
@given(st.floats(0.5, 120.0), temperature, st.floats(0.02, 3.0), st.floats(80.0, 92.0))
def test_heat_in_equals_heat_out(heat: float, ambient: float, radiator: float, thermostat: float) -> None:
    """Below boiling, block and radiator give away exactly the heat that the engine puts in."""
    coolant = physics.coolant_equilibrium_c.py_func(heat, ambient, radiator, thermostat)
    opening = min(max((coolant - thermostat) / physics.THERMOSTAT_SPAN_K, 0.0), 1.0)
    out = (physics.BLOCK_KW_PER_K + radiator * opening) * (coolant - ambient)
    if coolant < physics.BOILING_C:
        assert out == pytest.approx(heat, rel=1e-9)
    else:
        assert out <= heat * (1.0 + 1e-12)


@given(st.floats(150.0, 400.0), st.floats(0.0, 1.0), temperature, temperature)
def test_ideal_gas(cold: float, lost: float, one: float, other: float) -> None:
    """A tyre's absolute pressure is proportional to its absolute temperature, however much has leaked."""
    absolute = [physics.tyre_pressure_kpa.py_func(cold, lost, t) + physics.ATMOSPHERE_KPA for t in (one, other)]
    ratio = (one + physics.KELVIN) / (other + physics.KELVIN)
    assert absolute[0] / absolute[1] == pytest.approx(ratio, rel=1e-12)


@given(st.floats(150.0, 400.0), st.floats(0.0, 3.0))
def test_leak_ends_at_the_atmosphere(cold: float, lost: float) -> None:
    """A leak takes gauge pressure in proportion to itself: nothing below that of the air outside."""
    left = physics.tyre_pressure_kpa.py_func(cold, lost, physics.COLD_FILL_C)
    assert left == pytest.approx(cold * math.exp(-lost), rel=1e-12, abs=1e-9)


@given(temperature, temperature, st.floats(0.004, 0.012), st.floats(30.0, 90.0))
def test_cold_is_hard_on_batteries(one: float, other: float, ohm: float, capacity: float) -> None:
    """The colder a battery, the lower its voltage while it cranks, and the emptier it is in the morning."""
    cold, warm = sorted([one, other])
    ohms = [physics.internal_resistance_ohm.py_func(ohm, t) for t in (cold, warm)]
    volts = [physics.cranking_voltage_v.py_func(12.6, r, t) for r, t in zip(ohms, (cold, warm), strict=True)]
    charges = [physics.charge_percent.py_func(capacity, t) for t in (cold, warm)]
    assert ohms[0] >= ohms[1]
    assert volts[0] <= volts[1]
    assert charges[0] <= charges[1] < 100.0


@given(st.floats(-20.0, 120.0), st.floats(-20.0, 120.0), st.floats(0.0, 30.0), st.integers(1, 20))
def test_lag_does_not_depend_on_the_cut(before: float, target: float, elapsed: float, parts: int) -> None:
    """A held target is followed alike in one piece or in many."""
    value = before
    for _ in range(parts):
        value = physics.relaxed.py_func(value, target, elapsed / parts)
    assert value == pytest.approx(physics.relaxed.py_func(before, target, elapsed), abs=1e-6)


def test_oil_pressure_has_a_relief_valve() -> None:
    """Oil pressure rises with engine speed, falls with heat, and never exceeds the relief valve's."""
    grid = [[physics.oil_pressure_kpa.py_func(rpm, oil, 1.0) for rpm in range(700, 6_000, 200)]
            for oil in range(-30, 140, 10)]  # fmt: skip
    assert all(row == sorted(row) for row in grid)
    assert all(list(column) == sorted(column, reverse=True) for column in zip(*grid, strict=True))
    assert max(map(max, grid)) == physics.RELIEF_KPA


@given(st.floats(0.5, 2.0), st.floats(0.0, 1.0), st.floats(0.0, 0.9), st.floats(0.0, 0.9))
def test_worn_brakes_slip_more(own: float, load: float, one: float, other: float) -> None:
    """Slip grows with wear and load."""
    less, more = sorted([one, other])
    slip = [physics.brake_slip_percent.py_func(own, load, worn) for worn in (less, more)]
    assert slip[0] <= slip[1]

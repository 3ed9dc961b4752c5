"""What a simulated vehicle reports: names of the COVESA Vehicle Signal Specification where it has one."""

from __future__ import annotations

from typing import NamedTuple

WHEELS = ("Row1.Wheel.Left", "Row1.Wheel.Right", "Row2.Wheel.Left", "Row2.Wheel.Right")

COOLANT = "Vehicle.Powertrain.CombustionEngine.EngineCoolant.Temperature"
OIL_TEMPERATURE = "Vehicle.Powertrain.CombustionEngine.EngineOil.Temperature"
OIL_PRESSURE = "Vehicle.Powertrain.CombustionEngine.EOP"
CHARGING_VOLTAGE = "Vehicle.LowVoltageBattery.CurrentVoltage"
CRANKING_VOLTAGE = "Vehicle.LowVoltageBattery.CrankingVoltage"
CHARGE = "Vehicle.LowVoltageBattery.StateOfCharge"
FUEL_TRIM = "Vehicle.OBD.LongTermFuelTrim1"
ROUGHNESS = "Vehicle.Powertrain.CombustionEngine.Roughness"
BRAKE_TEMPERATURE = "Vehicle.Chassis.Axle.Row1.Brake.Temperature"
BRAKE_SLIP = "Vehicle.Chassis.Axle.Row1.Brake.Slip"
TYRES = tuple(f"Vehicle.Chassis.Axle.{wheel}.Tire.Pressure" for wheel in WHEELS)
SPEED = "Vehicle.Speed"
LOAD = "Vehicle.OBD.EngineLoad"
AMBIENT = "Vehicle.Exterior.AirTemperature"


class Channel(NamedTuple):
    """One reported signal: what a working sensor can show, the spread of its noise and its decimals.

    `noise` is a standard deviation in `unit`, and relative to the value where `relative`. A sensor that reports in the
    wrong unit shows `wrong[0] * value + wrong[1]`.
    """

    unit: str
    low: float
    high: float
    noise: float
    decimals: int
    relative: bool = False
    wrong: tuple[float, float] = (0.01, 0.0)


_FAHRENHEIT = (1.8, 32.0)
_PSI = (0.145038, 0.0)
_MILLI = (1_000.0, 0.0)
_RAD_PER_S = (0.104720, 0.0)

SCORED: dict[str, Channel] = {
    COOLANT: Channel("celsius", -40.0, 150.0, 0.6, 1, wrong=_FAHRENHEIT),
    OIL_TEMPERATURE: Channel("celsius", -40.0, 180.0, 1.2, 1, wrong=_FAHRENHEIT),
    OIL_PRESSURE: Channel("kPa", 0.0, 800.0, 0.03, 0, relative=True, wrong=_PSI),
    CHARGING_VOLTAGE: Channel("V", 6.0, 17.0, 0.08, 2, wrong=_MILLI),
    CRANKING_VOLTAGE: Channel("V", 4.0, 14.0, 0.13, 2, wrong=_MILLI),
    CHARGE: Channel("percent", 0.0, 100.0, 1.5, 0),
    FUEL_TRIM: Channel("percent", -60.0, 60.0, 1.2, 1),
    ROUGHNESS: Channel("rpm", 0.0, 200.0, 0.15, 1, relative=True, wrong=_RAD_PER_S),
    BRAKE_TEMPERATURE: Channel("celsius", -40.0, 800.0, 0.06, 0, relative=True, wrong=_FAHRENHEIT),
    BRAKE_SLIP: Channel("percent", 0.0, 60.0, 0.07, 1, relative=True),
    **{tyre: Channel("kPa", 0.0, 700.0, 2.5, 0, wrong=_PSI) for tyre in TYRES},
}
"""The signals that a fault can show in, in the order of the matrix."""

REGIME: dict[str, Channel] = {
    SPEED: Channel("km/h", 0.0, 250.0, 0.0, 1),
    LOAD: Channel("percent", 0.0, 100.0, 0.0, 1),
    AMBIENT: Channel("celsius", -60.0, 60.0, 0.0, 1),
}
"""The signals that say what the vehicle is doing, and in which weather."""

CHANNELS: dict[str, Channel] = {**SCORED, **REGIME}

"""A fault shows in the signals that it physically reaches, from its onset on, and in no other."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from anomaly.simulator import SimulationConfig, upkeep
from anomaly.simulator import signals as names
from anomaly.simulator.faults import CODES, NEVER, Faults, strike
from anomaly.simulator.sensing import World, sense, truth
from anomaly.simulator.usage import use
from anomaly.simulator.vehicles import build

SIGNATURES = {
    "coolant_loss": {names.COOLANT: 1, names.OIL_TEMPERATURE: 1, names.OIL_PRESSURE: -1},
    "battery_fade": {names.CRANKING_VOLTAGE: -1},
    "tyre_leak": {names.TYRES[2]: -1},
    "alternator_wear": {names.CHARGING_VOLTAGE: -1, names.CRANKING_VOLTAGE: -1},
    "injector_drift": {names.FUEL_TRIM: 1, names.ROUGHNESS: 1},
    "oil_pump_wear": {names.OIL_PRESSURE: -1},
    "breakdown": {},
}
CONFIG = SimulationConfig(vehicles=6, days=60, start=date(2025, 7, 1), fault_share=0.0)


def world(faults: Faults | None = None, config: SimulationConfig = CONFIG) -> World:
    """The same six vehicles, with their own fate or another."""
    numbers = range(config.vehicles)
    vehicles = build(3, numbers)
    usage = use(3, numbers, vehicles, config)
    plan = upkeep.plan(3, numbers, config)
    fate = strike(3, numbers, config) if faults is None else faults
    return World(vehicles, usage, fate, plan, plan.days_since_service(usage.ts, config.start_ms))


def failing(code: str) -> Faults:
    """All vehicles of one fault, from day 20 to day 50, at the third wheel."""
    count, day = CONFIG.vehicles, 86_400_000
    onset = CONFIG.start_ms + (50 if code == "breakdown" else 20) * day
    times = [np.full(count, t) for t in (onset, CONFIG.start_ms + 50 * day, NEVER)]
    return Faults(np.full(count, CODES.index(code)), np.full(count, 2), *times, np.ones(count))


@pytest.mark.parametrize("code", CODES)
def test_only_the_signature_moves(code: str) -> None:
    """Against the same vehicle in health, a fault moves its own signals in its direction, and no other signal."""
    healthy, ill = truth(world()), truth(world(failing(code)))
    last = world().usage.ts < failing(code).failure[:, None]
    last &= world().usage.ts >= failing(code).failure[:, None] - 5 * 86_400_000
    moved = {
        name: int(np.sign((ill[name] - healthy[name])[last].mean()))
        for name in names.CHANNELS
        if not np.array_equal(ill[name], healthy[name])
    }
    assert moved == SIGNATURES[code]


@pytest.mark.parametrize("code", CODES)
def test_nothing_before_the_onset(code: str) -> None:
    """Until its onset an ill vehicle reports exactly what it would have reported in health."""
    sick = world(failing(code))
    before = sick.usage.ts < sick.faults.onset[:, None]
    np.testing.assert_array_equal(sense(world(), 3, range(6))[before], sense(sick, 3, range(6))[before])


def test_severity_rises_to_the_failure() -> None:
    """Severity is 0 at the onset, rises all the way to 1 at the failure, and is 0 after it."""
    config = SimulationConfig(vehicles=200, fault_share=1.0, abrupt_share=0.0)
    faults = strike(5, range(200), config)
    share = np.linspace(0.0, 1.0, 50, endpoint=False)
    ts = (faults.onset[:, None] + share * (faults.failure - faults.onset)[:, None]).astype(np.int64)
    severity = faults.severity(ts)
    assert (severity[:, 0] == 0.0).all()
    assert (np.diff(severity, axis=1) > 0.0).all()
    assert (severity[:, -1] < 1.0).all()
    np.testing.assert_allclose(faults.severity(faults.failure[:, None] - 1), 1.0, rtol=1e-5)
    assert (faults.severity(faults.failure[:, None]) == 0.0).all()


@pytest.mark.parametrize("code", CODES[:-1])
def test_vehicles_differ_as_much_as_early_faults(code: str) -> None:
    """A tenth of a fault does less than 1.5 spreads of the healthy vehicles of one type and region."""
    config = SimulationConfig(vehicles=300, days=10, fault_share=0.0)
    slow = 3_000 * 86_400_000
    times = [np.full(300, t) for t in (config.start_ms - slow, config.start_ms + 9 * slow, NEVER)]
    early = Faults(np.full(300, CODES.index(code)), np.full(300, 2), *times, np.ones(300))
    built = build(3, range(300))
    same = (built.kind == 0) & (built.region == 0)
    main = next(iter(SIGNATURES[code]))
    healthy, ill = truth(world(config=config))[main][same], truth(world(early, config))[main][same]
    effect = (ill - healthy).mean()
    assert effect != 0.0
    assert abs(effect) < 1.5 * healthy.mean(axis=1).std()

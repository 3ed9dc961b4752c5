"""A fault shows in the signals that it physically reaches, from its onset on, and in no other."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from numpy.typing import NDArray

from anomaly.simulator import SimulationConfig, scenario
from anomaly.simulator import signals as names
from anomaly.simulator.drive import World
from anomaly.simulator.faults import CODES, NEVER
from anomaly.simulator.sensors import DROPOUT, NOISE, OFFSET, SENSOR_CODES, STUCK, UNIT
from anomaly.simulator.simulate import Arrived, arrivals, build_world

DAY = 86_400_000
SIGNATURES = {
    "coolant_loss": {names.COOLANT: 1, names.OIL_TEMPERATURE: 1, names.OIL_PRESSURE: -1},
    "battery_fade": {names.CRANKING_VOLTAGE: -1, names.CHARGE: -1},
    "tyre_leak": {names.TYRES[2]: -1},
    "alternator_wear": {names.CHARGING_VOLTAGE: -1, names.CRANKING_VOLTAGE: -1, names.CHARGE: -1},
    "injector_drift": {names.FUEL_TRIM: 1, names.ROUGHNESS: 1},
    "oil_pump_wear": {names.OIL_PRESSURE: -1},
    "brake_wear": {names.BRAKE_TEMPERATURE: 1, names.BRAKE_SLIP: 1},
    "misfire": {names.FUEL_TRIM: 1, names.ROUGHNESS: 1},
    "hose_burst": {names.COOLANT: 1, names.OIL_TEMPERATURE: 1, names.OIL_PRESSURE: -1},
    "breakdown": {},
}
CONFIG = SimulationConfig(vehicles=6, days=60, start=date(2025, 7, 1), faults=0.0, dropout=0.0, duplicates=0.0,
                          late=0.0, upkeep=0.0)  # fmt: skip
HEALTHY = build_world(CONFIG, 3)


def driven(world: World) -> Arrived:
    """All readings by vehicle and time."""
    (whole,) = arrivals(world, CONFIG)
    order = np.lexsort((whole.ts, whole.vehicle))
    return Arrived(*(column[order] for column in whole))


def failing(code: str) -> World:
    """All vehicles of one fault, from day 20 to day 50, at the third wheel; then they are repaired at once."""
    faults = HEALTHY.faults
    times = [np.where(np.arange(2) == 1, CONFIG.start_ms + day * DAY, NEVER) + 0 * faults.onset for day in (20, 50)]
    onset = times[1] if code == "breakdown" else times[0]
    kind = np.where(np.arange(2) == 1, CODES.index(code), -1) + 0 * faults.kind
    return HEALTHY._replace(
        faults=faults._replace(kind=kind, onset=onset, failure=times[1], repaired=times[1],
                               shape=np.ones((6, 2)), wheel=np.full(6, 2))
    )  # fmt: skip


def worn(kind: int, signal: str) -> World:
    """The sensor of one signal bad in all vehicles from day 20 to day 50, by ten times its noise."""
    times = [np.full(6, CONFIG.start_ms + day * DAY) for day in (20, 50)]
    place = np.full(6, list(names.SCORED).index(signal))
    return HEALTHY._replace(sensors=HEALTHY.sensors._replace(kind=np.full(6, kind), signal=place, begin=times[0],
                                                             end=times[1], size=np.full(6, 10.0)))  # fmt: skip


def within(ts: NDArray[np.int64], first: float, last: float) -> NDArray[np.bool_]:
    """The readings of these days."""
    return (ts >= CONFIG.start_ms + first * DAY) & (ts < CONFIG.start_ms + last * DAY)


@pytest.mark.parametrize("code", CODES)
def test_only_the_signature_moves(code: str) -> None:
    """Against the same vehicles in health, a fault moves its own signals in its direction and no other, from its onset
    to its end."""
    healthy, ill = driven(HEALTHY), driven(failing(code))
    last, outside = within(ill.ts, 45, 50), ~within(ill.ts, 20, 50)
    moved = {
        name: int(np.sign((ill.values[last, j] - healthy.values[last, j]).mean()))
        for j, name in enumerate(names.CHANNELS)
        if not np.array_equal(ill.values[:, j], healthy.values[:, j])
    }
    assert moved == SIGNATURES[code]
    warm = within(ill.ts, 50, 51)
    np.testing.assert_array_equal(ill.values[outside & ~warm], healthy.values[outside & ~warm])


@pytest.mark.parametrize("kind", [STUCK, NOISE, OFFSET, DROPOUT, UNIT], ids=SENSOR_CODES)
def test_a_bad_sensor_moves_its_own_signal(kind: int) -> None:
    """A bad sensor changes what its signal shows in its time, each kind in its way, and nothing else."""
    healthy, bad = driven(HEALTHY), driven(worn(kind, names.COOLANT))
    inside = within(bad.ts, 20, 50)
    np.testing.assert_array_equal(bad.values[:, 1:], healthy.values[:, 1:])
    np.testing.assert_array_equal(bad.values[~inside, 0], healthy.values[~inside, 0])
    shown, meant, own = bad.values[inside, 0], healthy.values[inside, 0], bad.vehicle[inside]
    change = shown - meant
    seen = {
        STUCK: all(len(set(shown[own == v])) == 1 for v in range(6)),
        NOISE: 4.0 < change.std() < 8.0 and abs(change.mean()) < 1.0,
        OFFSET: abs(change.mean() - 6.0) < 0.1 and change.std() < 0.1,
        DROPOUT: 0.6 < np.isnan(shown).mean() < 0.8,
        UNIT: np.allclose(shown, 1.8 * meant + 32.0, atol=0.01),
    }
    assert seen[kind]


@pytest.mark.parametrize("code", ["coolant_loss", "battery_fade", "injector_drift", "brake_wear"])
def test_unlike_vehicles_differ_as_much_as_early_faults(code: str) -> None:
    """In scenario B a third of a fault does less to its first signal than the vehicles of a type differ by."""
    config = scenario("B", vehicles=120, days=20, every="12h", faults=0.0, history_faults=0.0)
    healthy = build_world(config, 3)
    shape = healthy.faults.kind.shape
    end = np.full(shape, config.end_ms)
    early = healthy._replace(faults=healthy.faults._replace(
        kind=np.full(shape, CODES.index(code)), onset=0 * end, failure=end + DAY, shape=np.zeros(shape)
    ), rules=healthy.rules._replace(strength=0.33))  # fmt: skip
    (well,), (ill,) = (list(arrivals(world, config)) for world in (healthy, early))
    place = list(names.CHANNELS).index(next(iter(SIGNATURES[code])))
    same = healthy.vehicles.kind[well.vehicle] == 0
    means = [np.nanmean(well.values[well.vehicle == v, place]) for v in np.unique(well.vehicle[same])]
    effect = abs(np.nanmean(ill.values[same, place]) - np.nanmean(well.values[same, place]))
    assert 0.0 < effect < 2.0 * np.std(means)


def test_a_fine_rhythm_is_the_same_day_seen_closer() -> None:
    """At one reading a second temperatures move by little from one to the next, and what is done does not depend on
    how often somebody looks."""
    close = scenario("A", vehicles=2, days=1, every="1s", train_share=0.5, start=date(2025, 3, 1))
    (fine,) = arrivals(build_world(close, 1), close)
    own = fine.values[fine.vehicle == 0]
    changes = np.abs(np.diff(own[:, list(names.CHANNELS).index(names.SPEED)])) > 12.0
    assert 0 < changes.sum() < 24 * 60
    smooth = own[: len(own) // 60 * 60, 1].reshape(-1, 60).mean(axis=1)
    assert np.nanmax(np.abs(np.diff(smooth))) < 4.0
    assert np.nanmax(smooth) - np.nanmin(smooth) > 4.0

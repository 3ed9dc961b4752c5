"""A small fleet on a calendar, of which some vehicles wear and are reported, for the tests of the loop."""

from __future__ import annotations

from functools import cache

import numpy as np

from anomaly import settings
from anomaly.engine.frame import Frame
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Label, VehicleEvent
from training.fit import Trained, fit
from training.history import known_at, split_vehicles
from training.loop.record import Data, Record, Sources
from training.loop.triggers import Trigger

DAY = 86_400
DAYS = 120
FLEET = """
[fleet]
name = "aging"
vehicle = "v"
time = "t"
time_unit = "s"
[signals.a]
[signals.b]
[context]
[quality]
grace = "1d"
[baseline]
burn_in = 10
"""


def fleet() -> Fleet:
    """The fleet file."""
    return settings.parse(FLEET, Fleet, "fleet.toml")


def readings(vehicles: int = 20) -> Batch:
    """Two readings a day; every fourth vehicle wears for 20 days up to a day of its own."""
    rng = np.random.default_rng(1)
    day = np.arange(2 * DAYS) / 2
    failed = np.array([failure(number) for number in range(vehicles)])
    wear = np.clip(day[:, None] - (failed - 20), 0, 20) * (day[:, None] < failed)
    values = rng.normal(0, 1, (len(day), vehicles, 2)) + rng.normal(0, 2, (vehicles, 2)) + 0.5 * wear[..., None]
    names = [f"v{number:02d}" for number in range(vehicles)] * len(day)
    ts = (np.repeat(day, vehicles) * DAY).astype(np.int64)
    table = values.reshape(-1, 2).astype(np.float32)
    return Batch.of(names, ts, table, {"region": [None] * len(ts)}, np.arange(len(ts)))


def failure(number: int) -> float:
    """The day on which a vehicle fails; far away for most."""
    return 40.0 + 3 * number if number % 4 == 0 else 9_999.0


def labels(vehicles: int = 20) -> list[Label]:
    """What the workshop said four days after each failure."""
    return [
        Label(
            vehicle=f"v{number:02d}",
            start=int((failure(number) - 15) * DAY),
            end=int(failure(number) * DAY),
            verdict="fault",
            source="workshop",
            reported_at=int((failure(number) + 4) * DAY),
        )
        for number in range(0, vehicles, 4)
    ]


def events(vehicles: int = 20) -> list[VehicleEvent]:
    """The repair of each failure: what is normal begins anew."""
    ill = [number for number in range(vehicles) if failure(number) < DAYS]
    return [
        VehicleEvent(id=f"r{number}", vehicle=f"v{number:02d}", ts=int(failure(number) * DAY), kind="service")
        for number in ill
    ]


def sources() -> Sources:
    """All that there is to learn from."""
    return Sources(readings(), events(), labels())


def asked(cutoff_day: float = 91.0) -> Record:
    """What a cycle asks for."""
    return Record(
        cycle=3, trigger=Trigger(cause="schedule", reason="it is time"), cutoff=int(cutoff_day * DAY), seed=3,
        fleet="", frame="", parent="aging/1", window_days=70.0, holdout_days=28.0, cap=2.0,
        data=Data(readings="", events="", labels=""), vehicles=0, readings=0, faults=0,
    )  # fmt: skip


@cache
def champion() -> Trained:
    """A model of all days."""
    history = known_at(fleet(), readings(), events(), labels(), DAYS * DAY)
    return fit(fleet(), history, split_vehicles(history.names, 0, None), 0)


def frame() -> Frame:
    """The champion's."""
    return champion().frame

"""What is known of a simulated fleet besides its readings: events and labels as people report them, and the truth.

`truth`: one row a fault: vehicle, `part` ("vehicle" or "sensor"), kind, signal (of a sensor) or wheel (of a tyre),
onset, failure (for a sensor: its exchange), repaired, shape, floor, and `severity`, one value a day from the onset on.
Severity at t, from onset until failure, is `floor + (1 - floor) * ((t - onset) / (failure - onset)) ** shape`.
`nuisances`: what is no fault: kind, `from` and `to` (null: to the end), of which vehicle (null: all of type, region),
signal and size. Of sensors and firmware the size is in standard deviations of the signal's noise, of seasons in
kelvin, of fuel in percent, of a clock in ms, of dropout, duplicates and late their share.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from anomaly.simulator.climate import REGIONS
from anomaly.simulator.config import DAY_MS, SimulationConfig, whole_seconds
from anomaly.simulator.drive import World
from anomaly.simulator.faults import CODES, NEVER, Faults
from anomaly.simulator.sensors import SENSOR_CODES
from anomaly.simulator.signals import SCORED
from anomaly.simulator.streams import Purpose, stream
from anomaly.simulator.upkeep import EXCHANGED, SERVICED, UPDATED
from anomaly.simulator.vehicles import REGION_NAMES

Row = dict[str, "str | int | float | list[float] | None"]
_TIMES = {"from": pa.int64(), "to": pa.int64()}
EVENTS = pa.schema({"id": pa.string(), "vehicle": pa.string(), "ts": pa.int64(), "kind": pa.string(),
                    "detail": pa.string()})  # fmt: skip
LABELS = pa.schema({"vehicle": pa.string(), **_TIMES, "verdict": pa.string(), "code": pa.string(),
                    "reported_at": pa.int64(), "source": pa.string()})  # fmt: skip
TRUTH = pa.schema({"vehicle": pa.string(), "part": pa.string(), "kind": pa.string(), "signal": pa.string(),
                   "wheel": pa.int64(), "onset": pa.int64(), "failure": pa.int64(), "repaired": pa.int64(),
                   "shape": pa.float64(), "floor": pa.float64(), "severity": pa.list_(pa.float32())})  # fmt: skip
NUISANCES = pa.schema({"kind": pa.string(), "vehicle": pa.string(), "region": pa.string(), **_TIMES,
                       "signal": pa.string(), "size": pa.float64()})  # fmt: skip
MEDIAN_DELAY_DAYS = 4.0
"""Days from a failure until somebody reports it."""
SEEN_SHARE = 0.6
"""Share of a fault's time, at its end, that technicians can make out afterwards."""


def vehicle_name(number: int) -> str:
    """The key of a vehicle in every table."""
    return f"v{number:05d}"


def tables(world: World, config: SimulationConfig, seed: int) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table]:
    """The tables `events`, `labels`, `truth` and `nuisances`."""
    labels = sorted(_labels(seed, world.faults), key=lambda row: (row["reported_at"], row["vehicle"]))
    truths = sorted(_truths(world), key=lambda row: (row["failure"], row["vehicle"], row["part"]))
    return (
        _events_table(world, config),
        pa.Table.from_pylist(labels, schema=LABELS),
        pa.Table.from_pylist(truths, schema=TRUTH),
        pa.Table.from_pylist([*_common(config), *_own(world)], schema=NUISANCES),
    )


class Event(NamedTuple):
    """One thing done to a vehicle, as the stream of vehicle events has it."""

    ts: int
    vehicle: int
    kind: str
    detail: str


def _events_table(world: World, config: SimulationConfig) -> pa.Table:
    found = [*_services(world, config), *_once(world), *_repairs(world.faults)]
    rows: list[Row] = []
    for event in sorted(set(found)):
        if config.start_ms <= event.ts < config.end_ms and _reachable(world, event):
            vehicle, what = vehicle_name(event.vehicle), event.detail.split(":")[0].replace(" ", "-")
            rows.append({"id": f"{vehicle}-{event.ts}-{what}", "vehicle": vehicle, "ts": event.ts,
                         "kind": event.kind, "detail": event.detail})  # fmt: skip
    return pa.Table.from_pylist(rows, schema=EVENTS)


def _reachable(world: World, event: Event) -> bool:
    """Whether the vehicle is in service and does not stand broken; what ends that still happens."""
    v, faults = event.vehicle, world.faults
    broken = any(faults.failure[v, slot] <= event.ts < faults.repaired[v, slot] for slot in range(2))
    return event.kind == "retired" or (event.ts >= int(world.vehicles.first[v]) and not broken)


def _services(world: World, config: SimulationConfig) -> list[Event]:
    planned = []
    for v, (first, interval) in enumerate(zip(world.upkeep.since_first, world.upkeep.interval, strict=True)):
        times = range(config.start_ms + int(first), config.end_ms, int(interval))
        planned += [Event(ts, v, "service", "scheduled service") for ts in times]
    return planned


def _once(world: World) -> list[Event]:
    names, upkeep, sensors = list(SCORED), world.upkeep, world.sensors
    found: list[Event] = []
    for v in range(len(world.vehicles.key)):
        exchanged = int(np.flatnonzero(upkeep.step[v, EXCHANGED])[0])
        at = upkeep.step_at[v].tolist()
        found += [
            Event(int(upkeep.tyres[v]), v, "service", "new tyres"),
            Event(at[EXCHANGED], v, "sensor", f"new sensor: {names[exchanged]}"),
            Event(at[SERVICED], v, "service", "service with calibration"),
            Event(at[UPDATED], v, "firmware", "new firmware"),
            Event(int(sensors.end[v]), v, "sensor", f"new sensor: {names[sensors.signal[v]]}"),
        ]
        if world.vehicles.newcomer[v]:
            found.append(Event(int(world.vehicles.first[v]), v, "commissioned", "first day"))
    return found


def _repairs(faults: Faults) -> list[Event]:
    found = []
    for v, slot in np.argwhere(faults.kind >= 0).tolist():
        code, failure, repaired = CODES[faults.kind[v, slot]], faults.failure[v, slot], faults.repaired[v, slot]
        if repaired == NEVER:
            found.append(Event(int(failure) + DAY_MS, v, "retired", f"not repaired: {code}"))
        else:
            found.append(Event(int(repaired), v, "service", f"repair: {code}"))
    return found


def _labels(seed: int, faults: Faults) -> list[Row]:
    """What technicians report of each failure, days after it.

    Of the onset they only see the later part: `from` is a guess, a whole number of days before the failure.
    """
    rows: list[Row] = []
    for v, slot in np.argwhere(faults.kind >= 0).tolist():
        onset, failure = int(faults.onset[v, slot]), int(faults.failure[v, slot])
        own = stream(seed, Purpose.LABELS, v).standard_normal((2, 2))[slot]
        guess_days = int(SEEN_SHARE * (failure - onset) / DAY_MS * np.exp(0.25 * own[0]))
        delay_ms = whole_seconds(MEDIAN_DELAY_DAYS * DAY_MS * np.exp(0.6 * own[1:]))
        rows.append({"vehicle": vehicle_name(v), "from": max(failure - guess_days * DAY_MS, onset), "to": failure,
                     "verdict": "fault", "code": CODES[faults.kind[v, slot]],
                     "reported_at": failure + int(delay_ms[0]), "source": "workshop"})  # fmt: skip
    return rows


def _truths(world: World) -> list[Row]:
    faults, sensors, rows = world.faults, world.sensors, []
    for v, slot in np.argwhere(faults.kind >= 0).tolist():
        code, repaired = CODES[faults.kind[v, slot]], int(faults.repaired[v, slot])
        onset, failure = int(faults.onset[v, slot]), int(faults.failure[v, slot])
        rows.append({"vehicle": vehicle_name(v), "part": "vehicle", "kind": code,
                     "wheel": int(faults.wheel[v]) if code == "tyre_leak" else None, "onset": onset,
                     "failure": failure, "repaired": repaired if repaired != NEVER else None,
                     "shape": float(faults.shape[v, slot]), "floor": float(faults.floor[v, slot]),
                     "severity": faults.severity(v, slot, np.arange(onset, failure, DAY_MS)).tolist()})  # fmt: skip
    for v in np.flatnonzero(sensors.kind >= 0).tolist():
        begin, end = int(sensors.begin[v]), int(sensors.end[v])
        rows.append({"vehicle": vehicle_name(v), "part": "sensor", "kind": SENSOR_CODES[sensors.kind[v]],
                     "signal": list(SCORED)[sensors.signal[v]], "onset": begin, "failure": end, "repaired": end,
                     "shape": 0.0, "floor": 1.0, "severity": [1.0] * len(range(begin, end, DAY_MS))})  # fmt: skip
    return rows


def _common(config: SimulationConfig) -> list[Row]:
    """What happens to whole regions, or to readings on their way."""
    always: Row = {"from": config.start_ms, "to": None}
    seasons: list[Row] = [
        {**always, "kind": "season", "region": name, "size": config.season * region.season_c}
        for name, region in zip(REGION_NAMES, REGIONS, strict=True)
    ]
    shares: list[Row] = [
        {**always, "kind": name, "size": getattr(config, name)} for name in ("dropout", "duplicates", "late")
    ]
    return [*seasons, *shares]


def _own(world: World) -> list[Row]:
    """What happens to single vehicles."""
    upkeep, rows = world.upkeep, []
    spans = {
        "tyres": (upkeep.tyres, None, None),
        "route": (upkeep.route, None, None),
        "parking": (upkeep.parked, upkeep.parked_until, None),
        "clock_skew": (upkeep.skewed, upkeep.skewed_until, upkeep.skew_ms),
        "outage": (upkeep.outage, upkeep.outage_until, None),
    }
    for kind, (begin, end, size) in spans.items():
        rows += [
            {"kind": kind, "vehicle": vehicle_name(v), "from": int(begin[v]),
             "to": int(end[v]) if end is not None else None, "size": float(size[v]) if size is not None else None,
             "signal": list(SCORED)[upkeep.outage_signal[v]] if kind == "outage" else None}
            for v in np.flatnonzero(begin != NEVER).tolist()
        ]  # fmt: skip
    for cause, kind in ((EXCHANGED, "sensor_exchange"), (SERVICED, "service_step"), (UPDATED, "firmware")):
        for v in np.flatnonzero(upkeep.step_at[:, cause] != NEVER).tolist():
            rows += [
                {"kind": kind, "vehicle": vehicle_name(v), "from": int(upkeep.step_at[v, cause]),
                 "signal": list(SCORED)[j], "size": float(upkeep.step[v, cause, j])}
                for j in np.flatnonzero(upkeep.step[v, cause]).tolist()
            ]  # fmt: skip
    return rows

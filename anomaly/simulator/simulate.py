"""A whole fleet from a config and a seed: readings, events, labels, and the truth behind them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anomaly.simulator import upkeep as upkeeping
from anomaly.simulator.config import DAY_MS, SimulationConfig, whole_seconds
from anomaly.simulator.faults import CODES, NEVER, Faults, strike
from anomaly.simulator.sensing import World, sense
from anomaly.simulator.signals import CHANNELS
from anomaly.simulator.streams import Purpose, stream
from anomaly.simulator.transport import Delivery, deliver
from anomaly.simulator.upkeep import Event, Upkeep
from anomaly.simulator.usage import use
from anomaly.simulator.vehicles import REGION_NAMES, TYPES, build

Ints = NDArray[np.int64]

BLOCK = 128
"""Vehicles simulated at once; it bounds the memory that is used on the way and changes no value."""


class Simulation(NamedTuple):
    """What was simulated, as tables; times int64 ms UTC.

    `readings` (vehicle, ts, type, region, one float32 column a signal) are in the order of their arrival;
    `events` (id, vehicle, ts, kind, detail), `labels` (vehicle, from, to, verdict, code, reported_at, source) and
    `truth` (vehicle, kind, wheel, onset, failure, repaired, shape) in that of their time. Severity at `t` is
    `((t - onset) / (failure - onset)) ** shape` in between.
    """

    config: SimulationConfig
    seed: int
    readings: pa.Table
    events: pa.Table
    labels: pa.Table
    truth: pa.Table


class _Readings(NamedTuple):
    """Readings of one block: `vehicle`, `kind`, `region`, `ts`, `arrival` [n], `values` [n, channels]."""

    vehicle: Ints
    kind: Ints
    region: Ints
    ts: Ints
    arrival: Ints
    values: NDArray[np.float32]


def simulate(config: SimulationConfig, seed: int) -> Simulation:
    """Simulate a fleet. The same config and seed give the same tables; a vehicle does not depend on how many others."""
    blocks, events, labels, truths = [], [], [], []
    for start in range(0, config.vehicles, BLOCK):
        numbers = range(start, min(start + BLOCK, config.vehicles))
        faults = strike(seed, numbers, config)
        plan = upkeeping.plan(seed, numbers, config)
        blocks.append(_read(seed, numbers, faults, plan, config))
        events += upkeeping.events(plan, faults, numbers, config)
        labels += _labels(seed, numbers, faults)
        truths += _truths(numbers, faults)
    return Simulation(
        config=config,
        seed=seed,
        readings=_readings_table(blocks),
        events=_events_table(events),
        labels=_table(sorted(labels, key=lambda row: (row["reported_at"], row["vehicle"])), LABELS),
        truth=_table(sorted(truths, key=lambda row: (row["failure"], row["vehicle"])), TRUTH),
    )


def vehicle_name(number: int) -> str:
    """The key of a vehicle in every table."""
    return f"v{number:05d}"


def _read(seed: int, numbers: range, faults: Faults, plan: Upkeep, config: SimulationConfig) -> _Readings:
    vehicles = build(seed, numbers)
    usage = use(seed, numbers, vehicles, config)
    world = World(vehicles, usage, faults, plan, plan.days_since_service(usage.ts, config.start_ms))
    delivery = deliver(seed, numbers, usage.ts, config)
    shown = sense(world, seed, numbers)
    shown[delivery.lost] = np.nan
    parked = (usage.ts >= plan.parked[:, None]) & (usage.ts < plan.parked_until[:, None])
    row, column = np.nonzero(~faults.away(usage.ts) & ~parked)
    row, column, arrival = _arrive(row, column, usage.ts, delivery)
    return _Readings(
        vehicle=row + numbers.start,
        kind=vehicles.kind[row],
        region=vehicles.region[row],
        ts=usage.ts[row, column],
        arrival=arrival,
        values=shown[row, column],
    )


def _arrive(row: Ints, column: Ints, ts: Ints, delivery: Delivery) -> tuple[Ints, Ints, Ints]:
    """Positions of the readings that arrive, those that come twice at the end, and when each arrives."""
    again = np.flatnonzero(delivery.twice[row, column])
    arrival = ts[row, column] + delivery.delay_ms[row, column]
    return (
        np.concatenate([row, row[again]]),
        np.concatenate([column, column[again]]),
        np.concatenate([arrival, arrival[again] + 1_000]),
    )


def _readings_table(blocks: list[_Readings]) -> pa.Table:
    whole = _Readings(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))
    order = np.lexsort((whole.ts, whole.vehicle, whole.arrival))
    highest = int(whole.vehicle.max(initial=0))
    columns = {
        "vehicle": _strings(whole.vehicle[order], [vehicle_name(number) for number in range(highest + 1)]),
        "ts": pa.array(whole.ts[order]),
        "type": _strings(whole.kind[order], [one.name for one in TYPES]),
        "region": _strings(whole.region[order], list(REGION_NAMES)),
    }
    for name, values in zip(CHANNELS, np.ascontiguousarray(whole.values[order].T), strict=True):
        columns[name] = pa.array(values, from_pandas=True)
    return pa.table(columns)


def _strings(index: Ints, names: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), pa.array(names)).cast(pa.string())


EVENTS = pa.schema(
    {"id": pa.string(), "vehicle": pa.string(), "ts": pa.int64(), "kind": pa.string(), "detail": pa.string()}
)
LABELS = pa.schema(
    {"vehicle": pa.string(), "from": pa.int64(), "to": pa.int64(), "verdict": pa.string(), "code": pa.string(),
     "reported_at": pa.int64(), "source": pa.string()}
)  # fmt: skip
TRUTH = pa.schema(
    {"vehicle": pa.string(), "kind": pa.string(), "wheel": pa.int64(), "onset": pa.int64(), "failure": pa.int64(),
     "repaired": pa.int64(), "shape": pa.float64()}
)  # fmt: skip

MEDIAN_DELAY_DAYS = 4.0
"""Days from a failure until somebody reports it."""
SEEN_SHARE = 0.6
"""Share of a fault's time, at its end, that technicians can make out afterwards."""

Row = dict[str, "str | int | float | None"]


def _table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema)


def _events_table(events: list[Event]) -> pa.Table:
    rows: list[Row] = []
    for event in sorted(events, key=lambda event: (event.ts, event.vehicle, event.detail)):
        vehicle = vehicle_name(event.vehicle)
        what = event.detail.split(":")[0].replace(" ", "-")
        rows.append({"id": f"{vehicle}-{event.ts}-{what}", "vehicle": vehicle, "ts": event.ts, "kind": event.kind,
                     "detail": event.detail})  # fmt: skip
    return _table(rows, EVENTS)


def _labels(seed: int, numbers: range, faults: Faults) -> list[Row]:
    """What technicians report of each failure, days after it.

    Of the onset they only see the later part: `from` is a guess, a whole number of days before the failure.
    """
    rows: list[Row] = []
    for v in np.flatnonzero(faults.kind >= 0):
        onset, failure = int(faults.onset[v]), int(faults.failure[v])
        own = stream(seed, Purpose.LABELS, numbers[v]).standard_normal(2)
        guess_days = int(SEEN_SHARE * (failure - onset) / DAY_MS * np.exp(0.25 * own[0]))
        delay_ms = whole_seconds(MEDIAN_DELAY_DAYS * DAY_MS * np.exp(0.6 * own[1:]))
        rows.append(
            {
                "vehicle": vehicle_name(numbers[v]),
                "from": max(failure - guess_days * DAY_MS, onset),
                "to": failure,
                "verdict": "fault",
                "code": CODES[faults.kind[v]],
                "reported_at": failure + int(delay_ms[0]),
                "source": "workshop",
            }
        )
    return rows


def _truths(numbers: range, faults: Faults) -> list[Row]:
    return [
        {
            "vehicle": vehicle_name(numbers[v]),
            "kind": CODES[faults.kind[v]],
            "wheel": int(faults.wheel[v]) if CODES[faults.kind[v]] == "tyre_leak" else None,
            "onset": int(faults.onset[v]),
            "failure": int(faults.failure[v]),
            "repaired": int(faults.repaired[v]) if faults.repaired[v] != NEVER else None,
            "shape": float(faults.shape[v]),
        }
        for v in np.flatnonzero(faults.kind >= 0)
    ]

"""A whole fleet from a config and a seed: in memory, or chunk by chunk in the order in which readings arrive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from anomaly.fleet import Fleet
from anomaly.simulator import truth
from anomaly.simulator.climate import climate
from anomaly.simulator.config import SimulationConfig
from anomaly.simulator.drive import COLUMNS, ROOM, Rows, Rules, Warmth, World, drive, habits
from anomaly.simulator.faults import strike
from anomaly.simulator.sensors import wear_out
from anomaly.simulator.signals import CHANNELS
from anomaly.simulator.truth import vehicle_name
from anomaly.simulator.upkeep import plan
from anomaly.simulator.vehicles import REGION_NAMES, TYPES, build
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.text import Coded, Text

CHUNK = 1 << 19
"""Readings simulated at once; it bounds the memory and changes no value."""


class Simulation(NamedTuple):
    """What was simulated, as tables; times int64 ms UTC. What is before `config.train_until_ms` is history.

    `readings` (vehicle, ts, type, region, one float32 column a signal) are in the order of their arrival; `events`
    (id, vehicle, ts, kind, until, detail), `labels` (vehicle, from, to, verdict, code, reported_at, source), `truth`
    and `nuisances` are described in `anomaly.simulator.truth`.
    """

    config: SimulationConfig
    seed: int
    readings: pa.Table
    events: pa.Table
    labels: pa.Table
    truth: pa.Table
    nuisances: pa.Table


class Arrived(NamedTuple):
    """n readings in the order of their arrival: `vehicle` int32, `ts` and `arrival` int64, `values` [n, columns]."""

    vehicle: NDArray[np.int32]
    ts: NDArray[np.int64]
    arrival: NDArray[np.int64]
    values: NDArray[np.float32]


def simulate(config: SimulationConfig, seed: int) -> Simulation:
    """Simulate a fleet in memory. The same config and seed give the same tables.

    A vehicle does not depend on how many others there are, nor a reading on how the span is cut into chunks.
    """
    world = build_world(config, seed)
    pieces = [table_of(world, arrived) for arrived in arrivals(world, config)]
    return Simulation(config, seed, pa.concat_tables(pieces), *truth.tables(world, config, seed))


def build_world(config: SimulationConfig, seed: int) -> World:
    """The fleet and its fate, before anything is driven."""
    numbers = range(config.vehicles)
    vehicles = build(seed, numbers, config)
    return World(
        vehicles=vehicles,
        faults=strike(seed, numbers, vehicles, config),
        upkeep=plan(seed, numbers, vehicles, config),
        sensors=wear_out(seed, numbers, config),
        climate=climate(seed, config),
        habits=habits(),
        rules=Rules(config.start_ms, config.step_ms, config.strength, config.dropout, config.duplicates, config.late),
    )


def arrivals(world: World, config: SimulationConfig, chunk: int = CHUNK) -> Iterator[Arrived]:
    """The fleet's readings in the order of their arrival (then of vehicle and `ts`), about `chunk` at once."""
    count = config.vehicles
    steps = max(1, chunk // count)
    warmth = Warmth(np.zeros(count), np.zeros(count), np.full(count, -1), np.full(count, np.nan))
    room, physical = _room(steps * count), np.empty(ROOM)
    late = Arrived(room.vehicle[:0], room.ts[:0], room.arrival[:0], room.values[:0])
    for first in range(0, config.steps, steps):
        here = min(steps, config.steps - first)
        rows = drive(world, first, here, warmth, room, physical)
        last = first + here == config.steps
        until = NEVER if last else config.start_ms + (first + here) * config.step_ms
        arrived, late = _arrive(late, room, rows, until)
        yield arrived


NEVER = np.iinfo(np.int64).max


def _room(rows: int) -> Rows:
    return Rows(
        vehicle=np.empty(rows, np.int32),
        ts=np.empty(rows, np.int64),
        arrival=np.empty(rows, np.int64),
        twice=np.empty(rows, np.int8),
        values=np.empty((rows, COLUMNS), np.float32),
    )


def _arrive(late: Arrived, room: Rows, rows: int, until: int) -> tuple[Arrived, Arrived]:
    """What arrives before `until` of what is late and what was just driven, in order; and what is later still."""
    again = np.flatnonzero(room.twice[:rows])
    arrival = np.concatenate([late.arrival, room.arrival[:rows], room.arrival[again] + 1_000])
    vehicle = np.concatenate([late.vehicle, room.vehicle[:rows], room.vehicle[again]])
    ts = np.concatenate([late.ts, room.ts[:rows], room.ts[again]])
    order = np.lexsort((ts, vehicle, arrival))
    now = order[: np.searchsorted(arrival[order], until)]
    rest = order[len(now) :]
    values = np.concatenate([late.values, room.values[:rows], room.values[again]])
    return (
        Arrived(vehicle[now], ts[now], arrival[now], values[now]),
        Arrived(vehicle[rest], ts[rest], arrival[rest], values[rest]),
    )


def table_of(world: World, arrived: Arrived) -> pa.Table:
    """Readings as a table."""
    vehicle, count = arrived.vehicle, len(world.vehicles.key)
    columns = {
        "vehicle": _strings(vehicle, [vehicle_name(number) for number in range(count)]),
        "ts": pa.array(arrived.ts),
        "type": _strings(world.vehicles.kind[vehicle], [one.name for one in TYPES]),
        "region": _strings(world.vehicles.region[vehicle], list(REGION_NAMES)),
    }
    for name, values in zip(CHANNELS, np.ascontiguousarray(arrived.values.T), strict=True):
        columns[name] = pa.array(values, from_pandas=True)
    return pa.table(columns)


def _strings(index: NDArray[np.integer], names: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), pa.array(names)).cast(pa.string())


def batch(readings: pa.Table, fleet: Fleet) -> Batch:
    """Readings as the batch that reading their file would give: in stable order of time, `offsets` counted up."""
    order = np.argsort(readings["ts"].to_numpy(), kind="stable")
    values = np.stack([readings[name].to_numpy() for name in fleet.columns], axis=1).astype(np.float32)
    names, codes = _coded(readings["vehicle"])
    context = {}
    for field in fleet.context_fields:
        words, own = _coded(readings[field])
        context[field] = Coded(own[order], words)
    ts = readings["ts"].to_numpy()[order]
    return Batch(Text.of(names).take(codes[order]), ts, values[order], context, np.arange(len(ts)))


def _coded(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int32]]:
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()

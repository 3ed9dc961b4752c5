"""A year of a fleet that changes: readings, truth, and technicians who find out only what they look at."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Meta
from numpy.typing import NDArray

from anomaly import settings
from anomaly.fleet import Fleet, Name, Share
from anomaly.simulator import Simulation, SimulationConfig, batch, simulate
from anomaly.simulator.files import fleet_toml
from anomaly.simulator.signals import SCORED
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Label, VehicleEvent

DAY_MS = 86_400_000
MONTH_DAYS = 30.4
DELAY_SPREAD = 0.5
VISIBLE = 0.4
"""The part of a fault's time so far that a technician cannot make out afterwards."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table that a person writes: unknown keys are refused."""


Day = Annotated[int, Meta(ge=0, le=3_660)]
Positive = Annotated[float, Meta(ge=0.0)]


class Step(_Table, frozen=True):
    """`[step]`: from `day` on, `vehicle_share` of the vehicles get a firmware that moves `signals` by `sigma`."""

    day: Day
    rollout_days: Day
    vehicle_share: Share
    sigma: Positive
    signals: list[str]


class NewModel(_Table, frozen=True):
    """`[new_model]`: `vehicles` of a type that comes on `day`, whose signals lie `sigma` from those of the others."""

    type: Name
    day: Day
    vehicles: Annotated[int, Meta(ge=0)]
    sigma: Positive


class Labels(_Table, frozen=True):
    """`[labels]`: who is inspected, how long it takes to be told, and how often the verdict is wrong."""

    delay_days: Annotated[float, Meta(gt=0.0)]
    wrong: Share
    audit: Share
    outages: list[tuple[Day, Day]]


class Cost(_Table, frozen=True):
    """`[cost]`: of a false alarm, and of a failure that no alarm came before."""

    false_alarm: Positive
    missed: Positive


class WorldFile(_Table, frozen=True):
    """`year.toml`: a world, without the seed. Every number in it is the world's, none a policy's."""

    name: Name
    vehicles: Annotated[int, Meta(ge=10)]
    every: str
    start: date
    history_days: Annotated[int, Meta(ge=30)]
    days: Annotated[int, Meta(ge=30)]
    failures_a_month: Share
    season: Positive
    step: Step
    new_model: NewModel
    labels: Labels
    cost: Cost

    def __post_init__(self) -> None:
        unknown = [signal for signal in self.step.signals if signal not in SCORED]
        if unknown:
            raise ValueError(f"step.signals: {', '.join(unknown)} is no signal of the simulator")


def load_world(path: Path) -> WorldFile:
    """Read a world file. Raises ConfigError with everything that is wrong with it."""
    return settings.load(path, WorldFile)


class Failure(NamedTuple):
    """A fault of the vehicle `code`: its traces begin at `onset`, at `failure` it stands until `repaired`."""

    code: int
    onset: int
    failure: int
    repaired: int


class World(NamedTuple):
    """Everything that happens in a year, for one seed. Nobody but the technicians may look into `failures`.

    `readings` are those of the history and the year in order of time, `codes` int64[n] the positions of their vehicles
    in `names`; the year goes from `begin` to `end` (ms). `known` are the labels that were reported before the year.
    `audited` are the (vehicle, time) of the vehicle-days that the audit draws, in order of time.
    """

    file: WorldFile
    fleet: Fleet
    seed: int
    begin: int
    end: int
    readings: Batch
    names: list[str]
    codes: NDArray[np.int64]
    events: list[VehicleEvent]
    known: list[Label]
    failures: list[Failure]
    audited: list[tuple[int, int]]

    def fault_at(self, code: int, ts: int) -> Failure | None:
        """The fault that the vehicle has at `ts`, if it has one."""
        for failure in self.failures:
            if failure.code == code and failure.onset <= ts < failure.failure:
                return failure
        return None


def build_year(file: WorldFile, seed: int, fleet_file: Path) -> World:
    """The world of a seed; its fleet file, the simulator's own, is written to `fleet_file`."""
    old = simulate(_fleet_config(file), seed)
    fleet_file.write_text(fleet_toml(old.config), encoding="utf-8")
    fleet = _slower(settings.load(fleet_file, Fleet), file)
    sigma = _sigma(old)
    parts = [_stepped(old, file, sigma, seed)]
    events = [_event(row) for row in old.events.to_pylist()]
    truths = old.truth.to_pylist()
    if file.new_model.vehicles:
        new = simulate(_new_config(file), seed + 10_000)
        parts.append(_moved(new, file, sigma))
        events += [_event(row, "n") for row in new.events.to_pylist()]
        truths += [{**row, "vehicle": "n" + row["vehicle"]} for row in new.truth.to_pylist()]
    readings = batch(pa.concat_tables(parts), fleet)
    names = sorted(set(readings.vehicles))
    place = {name: code for code, name in enumerate(names)}
    codes = np.fromiter(map(place.__getitem__, readings.vehicles), np.int64, len(readings))
    begin, end = old.config.train_until_ms, old.config.end_ms
    failures = [
        Failure(place[row["vehicle"]], row["onset"], row["failure"], row["repaired"] or end)
        for row in truths
        if row["part"] == "vehicle" and row["failure"] < end and row["vehicle"] in place
    ]
    known = [_label(row) for row in old.labels.to_pylist() if row["reported_at"] < begin]
    audited = _audit(file, seed, codes, readings.ts, begin)
    return World(file, fleet, seed, begin, end, readings, names, codes, events, known, failures, audited)


def _slower(fleet: Fleet, file: WorldFile) -> Fleet:
    """The fleet file with readings that may be as late as the next is early."""
    return msgspec.structs.replace(fleet, quality=msgspec.structs.replace(fleet.quality, grace=file.every))


def _fleet_config(file: WorldFile) -> SimulationConfig:
    total = file.history_days + file.days
    return SimulationConfig(
        name=file.name,
        vehicles=file.vehicles,
        days=total,
        every=file.every,
        start=file.start,
        train_share=file.history_days / total,
        history_faults=file.failures_a_month * file.history_days / MONTH_DAYS,
        faults=file.failures_a_month * file.days / MONTH_DAYS,
        season=file.season,
    )


def _new_config(file: WorldFile) -> SimulationConfig:
    days = file.days - file.new_model.day
    return SimulationConfig(
        name=file.name,
        vehicles=file.new_model.vehicles,
        days=days,
        every=file.every,
        start=file.start + timedelta(days=file.history_days + file.new_model.day),
        faults=file.failures_a_month * days / MONTH_DAYS,
        season=file.season,
    )


def _sigma(old: Simulation) -> dict[str, float]:
    past = old.readings.filter(pa.compute.less(old.readings["ts"], old.config.train_until_ms))
    return {name: float(np.nanstd(past[name].to_numpy())) for name in SCORED}


def _stepped(old: Simulation, file: WorldFile, sigma: dict[str, float], seed: int) -> pa.Table:
    """The readings with the firmware's step in the vehicles that get it."""
    step, table = file.step, old.readings
    rng = np.random.default_rng([31, seed])
    who = pa.compute.unique(table["vehicle"]).to_pylist()
    chosen = rng.permutation(len(who))[: round(step.vehicle_share * len(who))]
    since = np.full(len(who), np.iinfo(np.int64).max)
    first = old.config.train_until_ms + step.day * DAY_MS
    since[chosen] = first + (rng.random(len(chosen)) * step.rollout_days * DAY_MS).astype(np.int64)
    own = pa.compute.index_in(table["vehicle"], value_set=pa.array(who)).to_numpy()
    after = table["ts"].to_numpy() >= since[own]
    for sign, name in zip((1.0, -1.0), step.signals, strict=False):
        table = _added(table, name, np.where(after, sign * step.sigma * sigma[name], 0.0))
    return table


def _moved(new: Simulation, file: WorldFile, sigma: dict[str, float]) -> pa.Table:
    """The readings of the new type: every third signal higher, every third lower than in the others."""
    table = new.readings
    names = pa.array(["n" + name for name in table["vehicle"].to_pylist()])
    table = table.set_column(0, "vehicle", names)
    table = table.set_column(2, "type", pa.array([file.new_model.type] * table.num_rows))
    for place, name in enumerate(SCORED):
        sign = (1.0, -1.0, 0.0)[place % 3]
        table = _added(table, name, np.full(table.num_rows, sign * file.new_model.sigma * sigma[name]))
    return table


def _added(table: pa.Table, name: str, more: NDArray[np.float64]) -> pa.Table:
    channel = SCORED[name]
    values = np.clip(table[name].to_numpy() + more, channel.low, channel.high)
    column = pa.array(values.astype(np.float32), from_pandas=True)
    return table.set_column(table.column_names.index(name), name, column)


def _event(row: dict[str, object], prefix: str = "") -> VehicleEvent:
    known = {**row, "id": prefix + str(row["id"]), "vehicle": prefix + str(row["vehicle"])}
    return msgspec.convert(known, VehicleEvent)


def _label(row: dict[str, object]) -> Label:
    return msgspec.convert(row, Label)


def _audit(
    file: WorldFile, seed: int, codes: NDArray[np.int64], ts: NDArray[np.int64], begin: int
) -> list[tuple[int, int]]:
    """The vehicle-days of the year that are drawn, by the hash of vehicle and day, each at its first reading."""
    year = np.flatnonzero(ts >= begin)
    days = np.stack([ts[year] // DAY_MS, codes[year]], axis=1)
    _, first = np.unique(days, axis=0, return_index=True)
    rows = year[np.sort(first)]
    drawn = np.random.default_rng([37, seed]).random(len(rows)) < file.labels.audit
    return [(int(codes[row]), int(ts[row])) for row in rows[drawn]]


def inspect(world: World, code: int, ts: int, source: str) -> Label:
    """What a technician reports of the vehicle at `ts`, as of when it is told; the same for the same question.

    Of a fault only the later part of its time so far is made out; a wrong verdict says the opposite of what is.
    """
    key = hashlib.blake2b(f"{world.seed}:{code}:{ts // DAY_MS}:{source}".encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(key, "big"))
    labels, fault = world.file.labels, world.fault_at(code, ts)
    wrong = rng.random() < labels.wrong
    delay = labels.delay_days * float(np.exp(DELAY_SPREAD * rng.standard_normal()))
    ill = (fault is not None) != wrong
    began = ts - 5 * DAY_MS if fault is None else int(fault.onset + VISIBLE * (ts - fault.onset))
    return Label(
        vehicle=world.names[code],
        start=began,
        end=ts,
        verdict="fault" if ill else "no_fault",
        source=source,
        reported_at=_told(world, ts + int(delay * DAY_MS)),
    )


def _told(world: World, at: int) -> int:
    for first, last in world.file.labels.outages:
        if world.begin + first * DAY_MS <= at < world.begin + last * DAY_MS:
            return world.begin + last * DAY_MS
    return at

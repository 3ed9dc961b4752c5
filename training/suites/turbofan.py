"""The turbofan sets: engines run to failure, as they are, and with nuisances that no history has shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from anomaly import settings
from anomaly.cli.init import Request, fleet_file
from anomaly.errors import DataError
from anomaly.feedback.history import HEALTHY
from anomaly.fleet import Fleet
from anomaly.telemetry.records import Label, VehicleEvent
from anomaly.telemetry.survey import survey
from training.frame import fit_frame
from training.history import History, Sources, Split, load_history, make_history, split_vehicles
from training.suites.case import split_case, train_and_test
from training.suites.rows import PRODUCT, Line, lines
from training.suites.tally import Costs
from training.suites.verdict import (
    Claim,
    Measured,
    Row,
    Verdict,
    at_least,
    at_most,
    base_rate,
    differences_of,
    measure,
    refusals,
    row_of,
    rows_of,
)
from training.suites.workers import Said, Task, run

Floats = NDArray[np.float64]
SPLITS = range(5)
LABELLED = "product, faults told by labels"
UNTOLD = "product, services not told"
DAY_S = 86_400
SEASON_SIGMA, SEASON_SIGNALS, SEASON_DAYS, START_DAYS = 1.5, 6, 365, 500
STEP_SIGMA, STEP_SIGNALS, STEP_SHARE = 2.0, 3, 0.5


class Floor(NamedTuple):
    """What a set is held to: lead in cycles, false alarms per 1,000 cycles, share detected."""

    lead: float
    false_alarms: float
    detected: float


FLOORS = {"FD001": Floor(90.0, 2.0, 1.0), "FD002": Floor(85.0, 2.0, 1.0)}
SEASON, SERVICE = Floor(65.0, 2.5, 0.97), Floor(80.0, 2.0, 0.97)
MOST_OF_NAIVE = 0.10


def turbofan(data: Path, costs: Costs, said: Said) -> list[Verdict]:
    """FD001 and FD002 out of `data`/cmapss, five splits each: every row at three budgets."""
    names = list(FLOORS)
    tasks = [Task(f"{name}, split {s}", clean_split, (_path(data, name), s, costs)) for name in names for s in SPLITS]
    done = run(tasks, said)
    return [_clean_verdict(name, [done[f"{name}, split {s}"] for s in SPLITS], costs) for name in names]


def turbofan_drift(data: Path, costs: Costs, said: Said) -> list[Verdict]:
    """FD002 on a calendar: with a season that training has not seen, and with steps at services that are told."""
    kinds = {"season": season_split, "service": service_split}
    path = _path(data, "FD002")
    tasks = [Task(f"{kind}, split {s}", of, (path, s, costs)) for kind, of in kinds.items() for s in SPLITS]
    done = run(tasks, said)
    results = {kind: [done[f"{kind}, split {s}"] for s in SPLITS] for kind in kinds}
    return [_season_verdict(results["season"], costs), _service_verdict(results["service"], costs)]


def clean_split(path: Path, number: int, costs: Costs) -> Measured:
    """One split of a set as it is, and the product once more with labels in place of `run_to_failure`."""
    fleet = fleet_of(path)
    history = load_history(fleet, Sources(path))
    split = split_vehicles(history.names, 0, number)
    case = split_case(fleet, history, split)
    return measure(case, number, [*lines(case), _labelled(fleet, history, split)], costs)


def season_split(path: Path, number: int, costs: Costs) -> Measured:
    """One split with a season in the test engines alone."""
    world = calendar(path, number)
    fleet, rng = world.fleet, world.rng
    signals = rng.permutation(world.varying)[:SEASON_SIGNALS]
    phase = rng.uniform(0, 2 * np.pi, SEASON_SIGNALS)
    history = world.history
    angle = 2 * np.pi * (history.batch.ts / DAY_S)[:, None] / SEASON_DAYS + phase
    values = history.batch.values.copy()
    wave = SEASON_SIGMA * np.sin(angle) * world.spread[:, signals]
    values[:, signals] += np.where(world.is_test[:, None], wave, 0.0).astype(np.float32)
    changed = history._replace(batch=replace(history.batch, values=values))
    case = split_case(fleet, changed, world.split)
    return measure(case, number, lines(case), costs)


def service_split(path: Path, number: int, costs: Costs) -> Measured:
    """One split with a step at a service in half of all engines; once more without being told of the services.

    No calendar and no cohort. Healthy is the first half of a life here too, told or not: begun again at a service, the
    healthy stretch would take away 15 cycles of the lead that can be had at all, and no two rows could be compared.
    """
    world = engines(path, number)
    values, events = _steps(world)
    batch = replace(world.history.batch, values=values)
    told, untold = (make_history(world.fleet, batch, known, [], []) for known in (events, []))
    case = split_case(world.fleet, told._replace(health=untold.health), world.split)
    without = split_case(world.fleet, untold, world.split)
    more = Line(UNTOLD, 1.0, train_and_test(without)[0])
    return measure(case, number, [*lines(case), more], costs)


class World(NamedTuple):
    """FD002 with what a nuisance needs. `varying` are the signals that are not constant in every regime, `spread`
    [n, d] the healthy spread of each signal in the regime of each reading, `is_test` [n]; `rng` draws the nuisance."""

    fleet: Fleet
    history: History
    split: Split
    varying: NDArray[np.int64]
    spread: Floats
    is_test: NDArray[np.bool_]
    rng: np.random.Generator


def engines(path: Path, number: int) -> World:
    """The set as it is."""
    fleet = fleet_of(path)
    return _world(fleet, load_history(fleet, Sources(path)), number, np.random.default_rng(1_000 + number))


def calendar(path: Path, number: int) -> World:
    """One cycle a day from a start day drawn for each engine; the whole fleet is one cohort."""
    cycles = fleet_of(path)
    history = load_history(cycles, Sources(path))
    rng = np.random.default_rng(1_000 + number)
    start = np.array([int(rng.integers(0, START_DAYS)) for _ in history.names])
    ts = (start[history.codes] + history.batch.ts) * DAY_S
    order = np.argsort(ts, kind="stable")
    fleet = msgspec.structs.replace(
        cycles,
        fleet=msgspec.structs.replace(cycles.fleet, time_unit="s"),
        context=msgspec.structs.replace(cycles.context, cohort=()),
    )
    return _world(fleet, make_history(fleet, replace(history.batch, ts=ts).take(order), [], [], []), number, rng)


def _world(fleet: Fleet, history: History, number: int, rng: np.random.Generator) -> World:
    split = split_vehicles(history.names, 0, number)
    train = history.of(split.train)
    frame = fit_frame(fleet, train.batch.values.astype(np.float64), train.codes, train.health == HEALTHY, 0)
    arrays, signals = frame.arrays(), len(frame.signals)
    place = history.batch.values[:, None, signals:].astype(np.float64)
    regime = (((place - arrays.center) * arrays.inv_scale) ** 2).sum(axis=2).argmin(axis=1)
    spread = 1.0 / arrays.inv_sd
    is_test = np.isin(history.codes, history.codes_of(split.test))
    return World(fleet, history, split, np.flatnonzero((spread != 1).any(axis=0)), spread[regime], is_test, rng)


def _steps(world: World) -> tuple[NDArray[np.float32], list[VehicleEvent]]:
    """Values with the steps, two spreads on three signals, and the services at which they came."""
    history, rng = world.history, world.rng
    values, burn_in, events = history.batch.values.copy(), world.fleet.baseline.burn_in, []
    for code, name in enumerate(history.names):
        rows = np.flatnonzero(history.codes == code)
        half = len(rows) // 2
        if rng.random() >= STEP_SHARE or half <= burn_in + 30:
            continue
        after = rows[int(rng.integers(burn_in + 5, half - 20)) :]
        signals = rng.permutation(world.varying)[:STEP_SIGNALS]
        size = STEP_SIGMA * rng.choice([-1.0, 1.0], STEP_SIGNALS)
        values[np.ix_(after, signals)] += (size * world.spread[np.ix_(after, signals)]).astype(np.float32)
        ts = int(history.batch.ts[after[0]])
        events.append(VehicleEvent(id=f"service-{name}", vehicle=name, ts=ts, kind="service"))
    return values, events


def fleet_of(path: Path) -> Fleet:
    """The fleet file that `init` writes for a set, with `run_to_failure = true`."""
    text = fleet_file(Request(path, "unit", "cycle", "turbofan"), survey(path, "unit", "cycle"))
    made = settings.parse(text, Fleet, "fleet.toml")
    return msgspec.structs.replace(made, history=msgspec.structs.replace(made.history, run_to_failure=True))


def _labelled(fleet: Fleet, history: History, split: Split) -> Line:
    """The product where the last 30 cycles of each engine are told by labels and `run_to_failure` is off."""
    lives = np.bincount(history.codes)
    window = fleet.history.fault_window
    labels = [
        Label(vehicle=name, start=int(life) - window + 1, end=int(life), verdict="fault", source="workshop")
        for name, life in zip(history.names, lives, strict=True)
    ]
    told = msgspec.structs.replace(fleet, history=msgspec.structs.replace(fleet.history, run_to_failure=False))
    case = split_case(told, make_history(told, history.batch, [], labels, []), split)
    return Line(LABELLED, 1.0, train_and_test(case)[0])


def _path(data: Path, name: str) -> Path:
    path = data / "cmapss" / f"train_{name}.parquet"
    if not path.exists():
        raise DataError(f"{path} is not there; --data names the folder that holds `cmapss/train_{name}.parquet`")
    return path


def _verdict(suite: str, about: str, measured: Sequence[Measured], costs: Costs, claims: Sequence[Claim]) -> Verdict:
    return Verdict(
        suite=suite,
        about=about,
        unit="cycles",
        budget=1.0,
        splits=len(measured),
        rows=rows_of(measured, costs),
        differences=differences_of(measured, 1.0, costs),
        claims=list(claims),
        timelines=measured[0].timelines,
        notes=refusals(measured),
        base_rate=base_rate(measured),
    )


def _held(row: Row, floor: Floor) -> Iterator[Claim]:
    """A row against a floor, in both readings of lead."""
    yield at_least(f"{row.row}: lead", row.lead.value, floor.lead)
    yield at_least(f"{row.row}: lead of the episode still running", row.lead_running.value, floor.lead)
    yield at_most(f"{row.row}: false alarms per 1,000 healthy cycles", row.false_alarms.value, floor.false_alarms)
    yield at_least(f"{row.row}: share of failures detected", row.detected.value, floor.detected)


def _clean_verdict(name: str, measured: Sequence[Measured], costs: Costs) -> Verdict:
    rows = rows_of(measured, costs)
    claims = [claim for row in (PRODUCT, LABELLED) for claim in _held(row_of(rows, row), FLOORS[name])]
    for other in differences_of(measured, 1.0, costs):
        if other.row in ("random", "Gaussian, frozen", "Gaussian, adapting", "offline only", "naive adaptive"):
            ahead = min(other.lead.value, other.lead_running.value)
            claims.append(at_least(f"lead above {other.row}, paired by split", ahead, 0.0))
    return _verdict(
        "turbofan", f"{name}: engines run to failure, on engines that were not fitted on", measured, costs, claims
    )


def _season_verdict(measured: Sequence[Measured], costs: Costs) -> Verdict:
    rows = rows_of(measured, costs)
    naive = row_of(rows, "naive adaptive").detected.value
    claims = [*_held(row_of(rows, PRODUCT), SEASON), at_most("naive adaptive: share detected", naive, MOST_OF_NAIVE)]
    return _verdict("turbofan-drift", "FD002 with a season that no training engine has seen", measured, costs, claims)


def _service_verdict(measured: Sequence[Measured], costs: Costs) -> Verdict:
    claims = list(_held(row_of(rows_of(measured, costs), PRODUCT), SERVICE))
    return _verdict(
        "turbofan-drift", "FD002 with a step at a known service in half of the engines", measured, costs, claims
    )

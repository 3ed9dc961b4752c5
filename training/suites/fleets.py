"""The ten stories of the simulator, each with the winner named beforehand."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow.parquet as pq

from anomaly import fleet as fleets
from anomaly.fleet import Fleet
from anomaly.simulator import SCENARIOS, scenario, write
from anomaly.telemetry.files import inspect_history, read_events, read_labels
from anomaly.telemetry.survey import survey
from training.history import Split, known_at, make_history
from training.suites.baselines import at_budget, gaussian_adapting, look
from training.suites.case import Case, Played, train_and_test
from training.suites.own import slices
from training.suites.rows import PARTS, PRODUCT, Line
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
    slices_of,
)
from training.suites.workers import Said, Task, run

SEEDS = range(1, 6)
VEHICLES = 200
TRAIN, VALIDATION = 0.4, 0.6
OFFLINE, ONLINE = "offline only", "online only"
STORIES = tuple(name for name in SCENARIOS if len(name) == 1)


class Expected(NamedTuple):
    """One thing that is expected of a scenario, written down before it was run: a figure and its bound."""

    what: str
    figure: Callable[[Row, Row, Row], float]
    bound: float
    least: bool = True


def _ahead(other: int, figure: str) -> Callable[[Row, Row, Row], float]:
    """How far the product is ahead of the offline (1) or online row (2)."""

    def value(*rows: Row) -> float:
        return float(getattr(rows[0], figure).value - getattr(rows[other], figure).value)

    return value


def _quieter(other: int) -> Callable[[Row, Row, Row], float]:
    """The false alarms of another row over the product's, which count as at least 0.5."""
    return lambda *rows: rows[other].false_alarms.value / max(rows[0].false_alarms.value, 0.5)


def _calmer(other: int) -> Callable[[Row, Row, Row], float]:
    """The share of healthy time in alarm of another row over the product's, which counts as at least 0.01 %."""
    return lambda *rows: rows[other].time_in_alarm.value / max(rows[0].time_in_alarm.value, 1e-4)


def _alarms(product: Row, _offline: Row, _online: Row) -> float:
    return product.false_alarms.value


def _detected(product: Row, _offline: Row, _online: Row) -> float:
    return product.detected.value


EXPECTED: dict[str, tuple[Expected, ...]] = {
    "A": (
        Expected("found, against offline only", _ahead(1, "detected"), -0.05),
        Expected("lead in days, against online only", _ahead(2, "lead"), 0.0),
    ),
    "B": (Expected("found, against offline only", _ahead(1, "detected"), 0.05),),
    "C": (Expected("found, against online only", _ahead(2, "detected"), 0.2),),
    "D": (
        Expected("healthy time in alarm of offline only, times the product's", _calmer(1), 3.0),
        Expected("found", _detected, 0.5),
    ),
    "E": (
        Expected("false alarms", _alarms, 2.0, least=False),
        Expected("healthy time in alarm of offline only, times the product's", _calmer(1), 1.0),
    ),
    "F": (Expected("found, against online only", _ahead(2, "detected"), 0.0),),
    "G": (Expected("found, against online only", _ahead(2, "detected"), 0.2),),
    "H": (Expected("lead in days, against online only", _ahead(2, "lead"), 0.0),),
    "I": (
        Expected("healthy time in alarm of offline only, times the product's", _calmer(1), 2.0),
        Expected("false alarms of online only, times the product's", _quieter(2), 2.0),
    ),
    "J": (Expected("false alarms", _alarms, 1.5, least=False),),
}
"""Medians over the seeds; bounds are the margins, written down before the first run. What offline only does in D, E and
I was first counted in episodes: a storm that lasts for weeks is a single one, so that its time is what counts."""


def simulated(costs: Costs, said: Said) -> list[Verdict]:
    """All ten scenarios, 200 vehicles each, five seeds."""
    tasks = [Task(f"scenario {name}, seed {s}", story, (name, s, costs)) for name in STORIES for s in SEEDS]
    done = run(tasks, said)
    return [verdict(name, [done[f"scenario {name}, seed {s}"] for s in SEEDS], costs) for name in STORIES]


def story(name: str, seed: int, costs: Costs, vehicles: int = VEHICLES) -> Measured:
    """One scenario with one seed: three rows, judged on vehicles and days that were not trained on."""
    case = fleet_case(name, seed, vehicles)
    rows = [_judged(case, line) for line in _rows(case)]
    kept = case._replace(test=case.test.of(case.split.test))
    return measure(kept, seed, rows, costs, slices(kept, []))


def fleet_case(name: str, seed: int, vehicles: int = VEHICLES) -> Case:
    """Training on 40 + 20 % of the vehicles up to the end of the history; all vehicles go on afterwards, as they would
    live (a cohort needs its members), and the other 40 %, with those that came later, are judged."""
    config = scenario(name, vehicles=vehicles)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write(config, seed, place)
        fleet = fleets.load(place / "fleet.toml")
        fleet = _as_init_would(fleet, place / "history.parquet")
        batch = inspect_history(place / "readings.parquet", fleet).batch
        events = read_events(place / "events.parquet", fleet) if _rows_of(place / "events.parquet") else []
        labels = read_labels(place / "labels.parquet", fleet) if _rows_of(place / "labels.parquet") else []
    at = config.train_until_ms - 1
    known = known_at(fleet, batch, events, labels, at)
    order = np.random.default_rng(seed).permutation(np.array(known.names, dtype=object))
    a, b = int(TRAIN * len(order)), int(VALIDATION * len(order))
    later = batch.take(np.flatnonzero(batch.ts > at))
    test = make_history(fleet, later, events, labels, [])
    newcomers = sorted(set(test.names) - set(known.names))
    split = Split(order[:a].tolist(), order[a:b].tolist(), [*order[b:].tolist(), *newcomers])
    return Case(fleet, known.of([*split.train, *split.validation]), split, test, seed)


def _as_init_would(fleet: Fleet, history: Path) -> Fleet:
    """The simulator's fleet file with the stuck limits that `init` finds in the history."""
    found = {one.name: one.stuck_after for one in survey(history, fleet.fleet.vehicle, fleet.fleet.time).signals}
    signals = {
        name: msgspec.structs.replace(signal, stuck_after=found.get(name, 0)) for name, signal in fleet.signals.items()
    }
    context = msgspec.structs.replace(fleet.context, cohort=("type", "region"))
    return msgspec.structs.replace(fleet, signals=signals, context=context)


def _rows_of(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def _rows(case: Case) -> list[Line]:
    played, trained = train_and_test(case)
    offline = next(part for part in PARTS if part.name == OFFLINE)
    changed = offline.change(case) or case
    alone = offline.frame(trained.frame) if offline.frame else trained.frame
    both = look(changed, alone)
    online = at_budget(both, gaussian_adapting(both), 1.0)
    return [
        Line(PRODUCT, 1.0, played),
        Line(OFFLINE, 1.0, train_and_test(changed, alone)[0]),
        Line(ONLINE, 1.0, online),
    ]


def _judged(case: Case, line: Line) -> Line:
    """The part of a row that belongs to the judged vehicles."""
    if line.played is None:
        return line
    decided = line.played.decided
    chosen = set(case.split.test)
    codes = [code for code, who in enumerate(case.test.names) if who in chosen]
    rows = np.isin(decided.codes, codes)
    part = decided.take(rows)._replace(
        faults=[fault for fault in decided.faults if fault.code in set(codes)],
        shifts=[shift for shift in decided.shifts if shift.code in set(codes)],
    )
    return line._replace(played=Played(part, line.played.level[rows]))


def verdict(name: str, measured: Sequence[Measured], costs: Costs) -> Verdict:
    """The table of a scenario, and whether who was expected to win did."""
    rows = rows_of(measured, costs)
    three = (row_of(rows, PRODUCT), row_of(rows, OFFLINE), row_of(rows, ONLINE))
    return Verdict(
        suite=f"fleet {name}",
        about=SCENARIOS[name][0],
        unit="vehicle-days",
        budget=1.0,
        splits=len(measured),
        rows=rows,
        differences=differences_of(measured, 1.0, costs),
        claims=[_claim(one, one.figure(*three)) for one in EXPECTED[name]],
        slices=slices_of(measured, costs),
        timelines=measured[0].timelines,
        notes=refusals(measured),
        base_rate=base_rate(measured),
    )


def _claim(one: Expected, value: float) -> Claim:
    return (at_least if one.least else at_most)(one.what, value, one.bound)

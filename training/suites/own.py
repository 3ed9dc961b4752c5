"""A user's own fleet, judged as the public sets are: split by vehicle, and by time where there is a common clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anomaly import fleet as fleets
from anomaly.errors import DataError
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.files import inspect_history, read_events, read_labels
from anomaly.telemetry.records import Label, VehicleEvent
from training.history import History, known_at, make_history, split_vehicles, told_by_labels
from training.suites.case import Case, split_case
from training.suites.rows import BUDGETS, PRODUCT, lines
from training.suites.slices import slices
from training.suites.tally import Costs
from training.suites.verdict import (
    Measured,
    Verdict,
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

SPLITS = range(5)
TRAIN_SHARE = 0.6


class Files(NamedTuple):
    """The files of a fleet's past."""

    config: Path
    data: Path
    events: Path | None
    labels: Path | None


class Past(NamedTuple):
    """A fleet's past in memory."""

    fleet: Fleet
    batch: Batch
    events: list[VehicleEvent]
    labels: list[Label]


def own(files: Files, costs: Costs, said: Said) -> list[Verdict]:
    """Five splits of the fleet's vehicles, every row at three budgets and at the fleet file's own."""
    past = read(files)
    whole = make_history(past.fleet, past.batch, past.events, past.labels, [])
    measured = list(run([Task(f"split {s}", own_split, (files, s, costs)) for s in SPLITS], said).values())
    budget, rows = past.fleet.threshold.false_alarms, rows_of(measured, costs)
    alarms = row_of(rows, PRODUCT, budget).false_alarms.value
    verdict = Verdict(
        suite=past.fleet.name,
        about=f"{len(past.batch):,} readings of {len(whole.names)} vehicles with {len(whole.faults)} confirmed faults",
        unit="cycles" if past.fleet.fleet.time_unit == "cycles" else "vehicle-days",
        budget=budget,
        splits=len(measured),
        rows=rows,
        differences=differences_of(measured, budget, costs),
        claims=[at_most("product: false alarms, twice the budget allowed", alarms, 2 * budget)],
        slices=slices_of(measured, costs),
        timelines=measured[0].timelines,
        notes=[*whole.notes, *_how(past.fleet, whole), *refusals(measured)],
        base_rate=base_rate(measured),
    )
    return [verdict]


def read(files: Files) -> Past:
    """Read the files. Raises DataError or ConfigError with what is wrong."""
    fleet = fleets.load(files.config)
    batch = inspect_history(files.data, fleet).batch
    events = read_events(files.events, fleet) if files.events else []
    labels = read_labels(files.labels, fleet) if files.labels else []
    return Past(fleet, batch, events, labels)


def own_split(files: Files, number: int, costs: Costs) -> Measured:
    """One split at the fleet file's own budget and at those that every suite has."""
    past = read(files)
    case = divide(past, number)
    budgets = tuple(dict.fromkeys([past.fleet.threshold.false_alarms, *BUDGETS]))
    return measure(case, number, lines(case, budgets), costs, slices(case, past.events, past.labels))


def divide(past: Past, number: int) -> Case:
    """In cycles, by vehicle alone. Else training vehicles up to the time that 60 % of the readings precede, with what
    was known then, and test vehicles from there on."""
    whole = make_history(past.fleet, past.batch, past.events, past.labels, [])
    split = split_vehicles(whole.names, 0, number)
    if past.fleet.fleet.time_unit == "cycles":
        return split_case(past.fleet, whole, split)
    at = int(np.quantile(past.batch.ts, TRAIN_SHARE, method="lower"))
    fleet, labels = told_by_labels(past.fleet, whole, past.labels)
    known = known_at(fleet, past.batch, past.events, labels, at)
    later = past.batch.take(np.flatnonzero(past.batch.ts > at))
    test = make_history(fleet, later, past.events, labels, [])
    if not set(test.names) & set(split.test):
        raise DataError("no test vehicle has a reading in the last 40 % of the time; give a longer history")
    return Case(fleet, known.of([*split.train, *split.validation]), split, test.of(split.test))


def _how(fleet: Fleet, whole: History) -> Iterator[str]:
    if fleet.fleet.time_unit == "cycles":
        yield "no common clock: training and test are split by vehicle alone"
    else:
        yield "split by vehicle and by time: test vehicles are judged after the first 60 % of the readings"
    if not whole.faults:
        yield "no confirmed fault: only false alarms can be judged; give --labels to see what is found"

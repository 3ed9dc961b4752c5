"""Parts of the test readings: by kind of fault, place, quarter, a vehicle's first days and what was done to it."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly import settings
from anomaly.fleet import Fleet
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.records import Label, VehicleEvent
from training.figures import Decided
from training.history import Split, make_history
from training.suites.case import Case, Played
from training.suites.rows import PRODUCT, Line
from training.suites.slices import slices
from training.suites.tally import Costs
from training.suites.verdict import SliceRow, measure, slices_of

TEXT = """
[fleet]
name = "f"
vehicle = "v"
time = "t"
time_unit = "s"
[signals.a]
[context]
cohort = ["type"]
[history]
detected_before = 2
"""
FLEET = settings.parse(TEXT, Fleet, "f")
DAY, DAYS, VEHICLES = 86_400, 100, 4
LABELS = [
    Label(vehicle="v0", start=80 * DAY, end=90 * DAY, verdict="fault", source="shop", code="leak"),
    Label(vehicle="v1", start=80 * DAY, end=90 * DAY, verdict="fixed", source="shop", code="wear"),
    Label(vehicle="v2", start=80 * DAY, end=90 * DAY, verdict="no_fault", source="shop", code="wear"),
]
EVENTS = [
    VehicleEvent(id="s", vehicle="v2", ts=40 * DAY, kind="service"),
    VehicleEvent(id="f", vehicle="v3", ts=60 * DAY, kind="firmware"),
]


def judged() -> Case:
    """Four vehicles with a reading a day from 1970-01-01 on; v0 and v1 are vans."""
    names = [f"v{n}" for n in range(VEHICLES)] * DAYS
    ts = np.repeat(np.arange(DAYS) * DAY, VEHICLES)
    context = {"type": ["van" if name < "v2" else "bus" for name in names], "region": [None] * len(names)}
    batch = Batch.of(names, ts, np.zeros((len(names), 1)), context, np.arange(len(names)))
    history = make_history(FLEET, batch, EVENTS, LABELS, [])
    return Case(FLEET, history, Split([], [], history.names), history)


@pytest.fixture(scope="module")
def found() -> dict[str, SliceRow]:
    """What comes of one alarm at v0's leak and one false alarm each in the days after service and firmware."""
    case = judged()
    ts, codes = case.test.batch.ts, case.test.codes
    places = [("v0", 82), ("v2", 45), ("v3", 65)]
    alarm = np.any([(codes == case.test.names.index(who)) & (ts == day * DAY) for who, day in places], axis=0)
    decided = Decided(codes, ts, alarm, np.ones(len(ts), np.bool_), case.test.health, case.test.faults)
    line = Line(PRODUCT, 1.0, Played(decided, alarm.astype(np.float32)))
    measured = measure(case, 0, [line], Costs(), slices(case, EVENTS, LABELS))
    return {row.name: row for row in slices_of([measured], Costs())}


def test_each_kind_of_fault_has_a_slice_of_its_own(found: dict[str, SliceRow]) -> None:
    """The leak was found and the wear was not; what was no fault makes no slice, and faults hold no healthy day."""
    leak, wear = found["fault: leak"], found["fault: wear"]
    assert (leak.faults, leak.detected, wear.faults, wear.detected) == (1, 1.0, 1, 0.0)
    assert (leak.days, leak.false_alarms, wear.days) == (0.0, None, 0.0)
    assert leak.lead == pytest.approx(8.0)


def test_days_after_service_and_firmware_are_counted_by_themselves(found: dict[str, SliceRow]) -> None:
    """Each has its 14 days and its one false alarm."""
    for kind in ("service", "firmware"):
        row = found[f"14 days after {kind}"]
        assert (row.days, row.false_alarms) == (14.0, pytest.approx(1_000 / 14))


def test_place_season_and_first_days_are_there(found: dict[str, SliceRow]) -> None:
    """Types by name, quarters by their months, and the first 30 days of all four vehicles."""
    assert (found["type: van"].faults, found["type: bus"].faults) == (2, 0)
    assert found["season: January to March"].days + found["season: April to June"].days == found["type: bus"].days + (
        found["type: van"].days
    )
    assert found["first 30 days of a vehicle"].days == 120.0

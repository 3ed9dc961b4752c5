"""What the autopilot sees while it watches: drift of what cannot alarm, and budgets that do not depend on the hour."""

from __future__ import annotations

import json

import pytest

from anomaly.service.monitor import Watched, reference_of
from tests.training.real_loop import DRIFTING, NOISY, World, look, make_world, pass_time
from training.loop import watch
from training.loop.machine import Store
from training.loop.place import newest
from training.loop.record import read_record
from training.loop.watch import lasting


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A fleet whose signals get noisy again two days after the loop has learned what is usual."""
    made = make_world(DRIFTING, tmp_path_factory.mktemp("drifting"))
    pass_time(made, 0)
    look(made)
    return made


def state(world: World) -> str:
    """Where the loop stands."""
    store = Store(world.place.folder / "loop.db")
    cycle = store.under_way()
    store.close()
    assert cycle is not None
    return cycle.state


def test_drift_of_signals_that_lasts_is_a_reason_to_train(world: World) -> None:
    """Quiet weeks are learned without a person; days after the noise is back its signals stand in the record."""
    place = world.place
    assert (world.place.trail, state(world)) == ([], "watch")
    reference = reference_of(Watched(place.run, place.fleet, place.registry))
    assert reference is not None
    assert reference.windows == 8
    pass_time(world, 1)
    look(world)
    record = read_record(place.folder / "0001" / "record.json")
    assert record.trigger.cause == "drift"
    assert all(f"signal {name}" in record.trigger.reason for name in NOISY)
    assert record.trigger.reason.endswith("is not what it was, for 5 days; 5 are enough")


def test_what_was_found_is_written_down_day_by_day(world: World) -> None:
    """Each of the last days is there with what was beyond its limit; a broken file is made again."""
    path = world.place.folder / "drift.json"
    found = json.loads(path.read_bytes())
    assert found["model"] == "sample/1"
    assert len(found["days"]) == 5
    path.write_bytes(b"{")
    at = newest(world.place)
    assert at is not None
    assert watch.seen(world.place, at, 0).drift_days == 5
    assert json.loads(path.read_bytes()) == found


def test_a_day_that_has_just_begun_has_the_budget_of_a_day(world: World) -> None:
    """The budget goes by the vehicles of whole days, not by the few that sent a reading since midnight."""
    at = newest(world.place)
    assert at is not None
    tomorrow = at // world.place.fleet.ticks_per_day + 1
    _, budget = watch._alerts(world.place, tomorrow, watch.ALERT_DAYS)
    fleet = DRIFTING.config.vehicles * world.place.fleet.threshold.false_alarms / 1_000
    assert 0.85 * fleet < budget <= fleet


def test_only_what_is_named_on_each_day_lasts() -> None:
    """Drift that wanders from signal to signal is none; what was there all the time is named, and how long."""
    assert lasting([["a"], ["b"], ["a"]]) == (1, "a")
    assert lasting([["a", "b"], ["b", "a"], ["b"]]) == (3, "b")
    assert lasting([["a"], []]) == lasting([]) == (0, "")
    assert lasting([["a", "b", "c", "d", "e"]]) == (1, "a, b, c and 2 more")

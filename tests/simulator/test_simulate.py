"""The same config and seed give the same fleet, vehicle by vehicle; its tables keep the product's contracts."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from anomaly.fleet import load
from anomaly.simulator import Simulation, SimulationConfig, batch, scenario, simulate, write
from anomaly.simulator.signals import CHANNELS, LOAD, SCORED, SPEED
from anomaly.simulator.simulate import arrivals, build_world, table_of
from anomaly.telemetry.files import read_history
from anomaly.telemetry.records import Label, VehicleEvent

SMALL = SimulationConfig(vehicles=40, days=60, faults=0.5)
TABLES = ("readings", "events", "labels", "truth", "nuisances")


@pytest.fixture(scope="module")
def small() -> Simulation:
    """Forty vehicles, half of which fail within two months."""
    return simulate(SMALL, 1)


def of(table: pa.Table, vehicles: set[str]) -> pa.Table:
    """The rows of some vehicles."""
    return table.filter(pc.is_in(table["vehicle"], pa.array(sorted(vehicles))))


def test_same_seed_same_fleet(small: Simulation) -> None:
    """The same config and seed give the same tables, to the last bit."""
    again = simulate(SMALL, 1)
    assert all(getattr(again, name).equals(getattr(small, name)) for name in TABLES)


def test_other_seed_other_fleet(small: Simulation) -> None:
    """Another seed gives other values of every signal, other failures and other events."""
    other = simulate(SMALL, 2)
    shorter = min(other.readings.num_rows, small.readings.num_rows)
    for name in CHANNELS:
        assert not other.readings[name][:shorter].equals(small.readings[name][:shorter])
    assert not any(getattr(other, name).equals(getattr(small, name)) for name in TABLES)


def test_more_vehicles_leave_the_others_alone(small: Simulation) -> None:
    """A larger fleet holds the smaller one unchanged, also across blocks of vehicles."""
    larger = simulate(msgspec.structs.replace(SMALL, vehicles=150), 1)
    former = set(small.readings["vehicle"].to_pylist())
    for name in TABLES[:-1]:
        assert of(getattr(larger, name), former).equals(getattr(small, name)), name


@pytest.mark.parametrize("scenario_name", ["D", "I"])
def test_chunks_do_not_matter(scenario_name: str) -> None:
    """Cut into few or many chunks, a fleet's readings are the same and arrive in the same order."""
    config = scenario(scenario_name, vehicles=17, days=60, every="3h", late=0.05, duplicates=0.05)
    whole = simulate(config, 4).readings
    world = build_world(config, 4)
    for chunk in (17, 500, 3_000):
        assert pa.concat_tables([table_of(world, part) for part in arrivals(world, config, chunk)]).equals(whole)


def test_chunks_do_not_matter_where_readings_arrive_together() -> None:
    """Readings of one vehicle that arrive in the same second come in the order of their own times, in any chunks."""
    config = SimulationConfig(vehicles=2, days=1, every="1s", faults=0.0, duplicates=0.3)
    world = build_world(config, 4)
    whole, parts = ([table_of(world, part) for part in arrivals(world, config, chunk)] for chunk in (1 << 20, 1_001))
    assert pa.concat_tables(parts).equals(pa.concat_tables(whole))


def test_kinds_of_fault_before_and_after_the_history() -> None:
    """Faults are of the kinds that were asked for, others in the history than after it."""
    config = scenario("A", kinds=["brake_wear", "tyre_leak"], history_kinds=["misfire"], every="1d")
    truth = simulate(config, 1).truth.to_pylist()
    found = {after: {row["kind"] for row in truth if (row["onset"] >= config.train_until_ms) is after}
             for after in (False, True)}  # fmt: skip
    assert found == {False: {"misfire"}, True: {"brake_wear", "tyre_leak"}}


def test_the_batch_is_that_of_the_file(tmp_path: Path) -> None:
    """Readings in memory become the batch that a person's commands would read from the written file."""
    config = scenario("F", vehicles=9, days=40)
    write(config, 2, tmp_path)
    fleet = load(tmp_path / "fleet.toml")
    read, made = read_history(tmp_path / "readings.parquet", fleet), batch(simulate(config, 2).readings, fleet)
    assert made.vehicles == read.vehicles
    np.testing.assert_array_equal(made.ts, read.ts)
    np.testing.assert_array_equal(made.values, read.values)
    assert {field: list(words) for field, words in made.context.items()} == read.context


def test_time_increases_without_nuisances() -> None:
    """Before anything happens to readings on their way, each vehicle's times strictly increase and none is missing."""
    tidy = msgspec.structs.replace(SMALL, dropout=0.0, duplicates=0.0, late=0.0, upkeep=0.0)
    readings = simulate(tidy, 1).readings
    for vehicle in set(readings["vehicle"].to_pylist()):
        assert (np.diff(of(readings, {vehicle})["ts"].to_numpy()) > 0).all()
    assert all(readings[name].null_count == 0 for name in readings.column_names)


def test_nuisances_have_their_shares() -> None:
    """Missing values, readings that come twice, and late ones come as often as the config says."""
    untidy = msgspec.structs.replace(SMALL, vehicles=100, dropout=0.05, duplicates=0.03, late=0.02)
    readings = simulate(untidy, 1).readings
    rows = readings.num_rows
    distinct = readings.group_by(["vehicle", "ts"]).aggregate([]).num_rows
    missing = sum(readings[name].null_count for name in CHANNELS) / rows / len(CHANNELS)
    late = sum((np.diff(of(readings, {v})["ts"].to_numpy()) < 0).sum() for v in set(readings["vehicle"].to_pylist()))
    assert 0.048 < missing < 0.06
    assert 0.02 < (rows - distinct) / distinct < 0.04
    assert 0.01 < late / rows < 0.03


@pytest.mark.parametrize(("step", "days", "day"), [("6h", 60, 4), ("1d", 60, 1), ("10m", 2, 144), ("10s", 1, 8_640)])
def test_any_resolution(step: str, days: int, day: int) -> None:
    """A fleet can report from every few minutes to once a day; sensors of healthy vehicles are within their range."""
    config = SimulationConfig(
        vehicles=12, days=days, every=step, faults=0.0, duplicates=0.0, upkeep=0.5, start=date(2025, 1, 1)
    )
    readings = simulate(config, 1).readings
    assert 0.8 * 12 * days * day <= readings.num_rows <= 12 * days * day
    for name, channel in CHANNELS.items():
        low, high = pc.min(readings[name]).as_py(), pc.max(readings[name]).as_py()
        assert channel.low <= low < high <= channel.high
        assert name in (SPEED, LOAD) or channel.low < low < high < channel.high


def test_share_of_faults() -> None:
    """`faults` of the vehicles fail once, `abrupt` of those without warning, all within the span."""
    config = SimulationConfig(vehicles=2_000, days=30, every="1d", faults=0.3, abrupt=0.2)
    truth = simulate(config, 1).truth.to_pylist()
    abrupt = [row for row in truth if row["kind"] in ("breakdown", "hose_burst")]
    assert 0.27 < len(truth) / 2_000 < 0.33
    assert 0.15 < len(abrupt) / len(truth) < 0.25
    assert all(row["onset"] == row["failure"] for row in truth if row["kind"] == "breakdown")
    assert all(config.start_ms < row["onset"] <= row["failure"] < config.end_ms for row in truth)
    assert len({row["kind"] for row in truth}) == 10


def test_failed_vehicle_is_away_until_repaired(small: Simulation) -> None:
    """From its failure to its repair a vehicle reports nothing; a vehicle that is not repaired never again."""
    ends = small.truth.to_pylist()
    assert any(row["repaired"] is None for row in ends)
    for row in ends:
        ts = of(small.readings, {row["vehicle"]})["ts"].to_numpy()
        assert not ((ts >= row["failure"]) & (ts < (row["repaired"] or SMALL.end_ms))).any()


def test_labels_come_late_and_fit_the_contract(small: Simulation) -> None:
    """Each failure has one fault label with its code, reported days later, from after the true onset to the end."""
    labels = [msgspec.convert(row, Label) for row in small.labels.to_pylist()]
    truth = {row["vehicle"]: row for row in small.truth.to_pylist()}
    assert sorted(label.vehicle for label in labels) == sorted(truth)
    for label in labels:
        own = truth[label.vehicle]
        assert label.verdict == "fault"
        assert own["onset"] <= label.start <= label.end == own["failure"]
        assert label.code == own["kind"]
    delays = [(label.reported_at or 0) - label.end for label in labels]
    assert min(delays) > 0
    assert 2.0 < np.median(delays) / 86_400_000 < 8.0


def test_events_fit_the_contract(small: Simulation) -> None:
    """Every event is a vehicle event with an id of its own; services, sensors, repairs and retirements occur."""
    wide = simulate(msgspec.structs.replace(SMALL, vehicles=200, every="1d", days=500), 1).events.to_pylist()
    events = [msgspec.convert(row, VehicleEvent) for row in wide]
    assert len({event.id for event in events}) == len(events)
    kinds = {(event.kind, (event.detail or "").split(":")[0]) for event in events}
    assert kinds == {
        ("service", "scheduled service"), ("service", "new tyres"), ("service", "repair"),
        ("sensor", "new sensor"), ("retired", "not repaired"),
    }  # fmt: skip


def test_exchanged_sensor_steps_at_its_event() -> None:
    """The exchange of a sensor moves the mean of its signal at the event, by more than its noise can."""
    config = SimulationConfig(vehicles=300, days=60, faults=0.0)
    run = simulate(config, 1)
    moved = []
    for event in run.events.filter(pc.equal(run.events["kind"], "sensor")).to_pylist():
        name = event["detail"].removeprefix("new sensor: ")
        own = of(run.readings, {event["vehicle"]})
        values, after = own[name].to_numpy(), own["ts"].to_numpy() >= event["ts"]
        if not SCORED[name].relative and "Tire" not in name and 20 < after.sum() < len(after) - 20:
            moved.append(abs(np.nanmean(values[after]) - np.nanmean(values[~after])) / SCORED[name].noise)
    assert len(moved) > 3
    assert np.median(moved) > 1.0

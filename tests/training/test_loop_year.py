"""A year's policies know nothing before it was told, and technicians only what they look at."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pytest

from anomaly.errors import ConfigError
from training.loop.comparison import Against, Comparison
from training.loop.page import page
from training.loop.policies import POLICIES, Policy
from training.loop.triggers import Rules
from training.loop.world import (
    DAY_MS,
    Cost,
    Labels,
    NewModel,
    Step,
    World,
    WorldFile,
    build_year,
    inspect,
    load_world,
)
from training.loop.year import Course, Year, first_champion, run_year

ROOT = Path(__file__).resolve().parents[2]
SMALL = WorldFile(
    name="small", vehicles=30, every="12h", start=date(2024, 10, 1), history_days=60, days=60, failures_a_month=0.15,
    season=0.2, step=Step(day=20, rollout_days=2, vehicle_share=0.4, sigma=1.5,
    signals=["Vehicle.OBD.LongTermFuelTrim1", "Vehicle.LowVoltageBattery.CurrentVoltage"]),
    new_model=NewModel(type="crossover", day=30, vehicles=6, sigma=1.5),
    labels=Labels(delay_days=5.0, wrong=0.05, audit=0.05, outages=[(10, 20)]),
    cost=Cost(false_alarm=10.0, missed=500.0),
)  # fmt: skip
OFTEN = Policy("often", Rules(every_days=20.0, labels=0, drift_days=0), gate=False, experiment=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A small world."""
    return build_year(SMALL, 1, tmp_path_factory.mktemp("year") / "fleet.toml")


def test_the_shipped_world_is_the_one_that_was_agreed() -> None:
    """The world file holds what it was set to before any policy was tried."""
    file = load_world(ROOT / "data" / "samples" / "year.toml")
    assert (file.step.sigma, len(file.step.signals), file.step.vehicle_share) == (1.5, 2, 0.4)
    assert (file.failures_a_month, file.labels.delay_days, file.labels.wrong) == (0.02, 14.0, 0.05)
    assert (len(file.labels.outages), file.labels.audit) == (2, 0.01)
    assert (file.cost.false_alarm, file.cost.missed) == (10.0, 500.0)


def test_an_unknown_key_of_a_world_is_refused(tmp_path: Path) -> None:
    """A misspelt key is named with the nearest known word."""
    text = (ROOT / "data" / "samples" / "year.toml").read_text(encoding="utf-8")
    (tmp_path / "year.toml").write_text(text.replace("failures_a_month", "failure_a_month"), encoding="utf-8")
    with pytest.raises(ConfigError, match="failures_a_month"):
        load_world(tmp_path / "year.toml")


def test_what_comes_later_changes_nothing_before(world: World) -> None:
    """Readings after a day, replaced by noise, leave everything that was done up to it as it was."""
    champion, day = first_champion(world), 45
    noise = world.readings.values.copy()
    after = world.readings.ts >= world.begin + day * DAY_MS
    noise[after] = np.random.default_rng(0).normal(50.0, 10.0, (int(after.sum()), noise.shape[1]))
    other = world._replace(readings=replace(world.readings, values=noise.astype(np.float32)))
    courses = [Course(one, OFTEN, champion) for one in (world, other)]
    for course in courses:
        for number in range(day):
            course.day(number)
    first, second = courses
    assert first.promoted == 2
    assert first.alerts == second.alerts
    assert (first.done, first.labels) == (second.done, second.labels)


def test_a_year_repeats(world: World) -> None:
    """The same world and policy give the same year, and its cost is the sum of its days."""
    champion = first_champion(world)
    one, other = (run_year(world, OFTEN, champion) for _ in range(2))
    assert one == other
    assert one.cost == sum(one.cost_by_day) == 10 * one.false_alarms + 500 * one.missed


def test_technicians_are_wrong_as_often_as_the_world_says(world: World) -> None:
    """Verdicts are wrong in about the share that the world file names, and the same question has one answer."""
    asked = [(code, world.begin + day * DAY_MS) for code in range(len(world.names)) for day in range(60)]
    told = [inspect(world, code, ts, "workshop") for code, ts in asked]
    ill = [world.fault_at(code, ts) is not None for code, ts in asked]
    wrong = [(one.verdict == "fault") != truth for one, truth in zip(told, ill, strict=True)]
    assert 0.035 < np.mean(wrong) < 0.065
    assert told[7] == inspect(world, *asked[7], "workshop")


def test_nothing_is_told_during_an_outage(world: World) -> None:
    """What would be reported in an outage comes at its end, and about half of the labels within the median delay."""
    told = [inspect(world, code, world.begin, "workshop") for code in range(len(world.names))]
    days = np.array([((one.reported_at or 0) - world.begin) / DAY_MS for one in told])
    assert not ((days >= 10) & (days < 20)).any()
    free = [inspect(world, code, world.begin + 30 * DAY_MS, "workshop") for code in range(len(world.names))]
    delay = np.array([((one.reported_at or 0) - one.end) / DAY_MS for one in free])
    assert 3.5 < np.median(delay) < 7.0


def test_only_the_stepped_vehicles_move(world: World, tmp_path: Path) -> None:
    """Without the step the readings differ in two signals of 40 % of the vehicles, after its day, and nowhere else."""
    still = msgspec.structs.replace(SMALL.step, sigma=0.0)
    calm = build_year(msgspec.structs.replace(SMALL, step=still), 1, tmp_path / "fleet.toml")
    moved = (world.readings.values != calm.readings.values) & ~np.isnan(calm.readings.values)
    columns = [world.fleet.columns[place] for place in np.flatnonzero(moved.any(axis=0))]
    assert sorted(columns) == sorted(SMALL.step.signals)
    assert len(np.unique(world.codes[moved.any(axis=1)])) == 12
    assert world.readings.ts[moved.any(axis=1)].min() >= world.begin + 20 * DAY_MS


def test_the_page_tells_of_every_policy() -> None:
    """The page is one file with a curve for each policy, what happened, and what the loop did."""
    years = [
        Year(policy=one.name, seed=1, cost=60.0, false_alarms=6, failures=2, missed=0, retrained=1, promoted=0,
             inspections=8, cost_by_day=[1.0] * 60, done=[])
        for one in POLICIES
    ]  # fmt: skip
    against = Against(policy="frozen", median=-0.4, low=-0.5, high=-0.3)
    text = page(SMALL, Comparison(seeds=[1], years=years, steady=years[:1], against=[against], against_steady=against))
    assert text.count("<polyline") == len(POLICIES)
    assert all(word in text for word in ("no labels", "firmware", "new model", "-40.0 %", "no-experiment"))
    assert "http" not in text

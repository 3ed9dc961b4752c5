"""A challenger that turns out to do harm in its experiment, and an autopilot that is killed on the way."""

from __future__ import annotations

import pytest

from anomaly.experiments.report import report
from anomaly.service import monitor
from anomaly.service.monitor import Watched
from anomaly.service.rows import read_decisions
from tests.training.real_loop import HARMFUL, World, look, look_killed, make_world, pass_time

KILLED_AT = ("gate.done", "shadow.done", "experiment.done", "roll_back.done")
WAY = ["watch", "retrain", "gate", "shadow", "experiment", "roll_back"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The fleet under the real loop to the day on which the harm is known, killed four times."""
    made, killed = make_world(HARMFUL, tmp_path_factory.mktemp("harmful")), 0
    for number in range(len(HARMFUL.looks)):
        pass_time(made, number)
        killed += look_killed(made, KILLED_AT[killed:]) if killed < len(KILLED_AT) else look(made)
    assert killed == len(KILLED_AT)
    return made


def test_a_challenger_that_does_harm_is_rolled_back(world: World) -> None:
    """Gate and shadow let it through, as it learned from quiet weeks; when the noise is back the guardrail fires."""
    own = [one for one in world.place.trail if one.cycle == 1]
    assert [one.left for one in own] == WAY
    assert "loop-1-live: alerts: harm between" in own[-2].reason
    experiment = report(world.folder / "run" / "experiments", "loop-1-live").state
    assert experiment is not None
    assert (experiment.status, experiment.verdict) == ("rolled_back", "fail")


def test_the_champion_stays_and_nothing_is_left_of_the_challenger(world: World) -> None:
    """One champion from first to last; no alias names the challenger, whose model is still there to look at."""
    registry = world.place.registry
    changes = registry.history("sample")
    assert [change.number for change in changes if change.alias == "champion"] == [1]
    assert {change.number for change in changes if change.alias in ("shadow", "challenger")} == {2, None}
    assert (world.place.champion(), registry.aliases("sample").get("challenger")) == ("sample/1", None)
    assert [entry.number for entry in registry.entries("sample")] == [1, 2]


def test_the_challenger_decided_for_half_of_the_vehicles_and_for_nobody_before(world: World) -> None:
    """It acts from the experiment's begin on, in its arm alone."""
    began = next(one.at for one in world.place.trail if one.left == "shadow")
    rows = read_decisions(world.folder / "run").select(["vehicle", "ts", "model"]).to_pylist()
    tried = {row["vehicle"] for row in rows if row["model"] == "sample/2"}
    others = {row["vehicle"] for row in rows if row["model"] == "sample/1" and row["ts"] > began}
    assert min(row["ts"] for row in rows if row["model"] == "sample/2") > began
    assert tried
    assert others
    assert not tried & others


def test_the_monitor_looks_at_the_scores_of_the_champion_alone(world: World) -> None:
    """What the challenger said for its arm is no drift of the champion's scores."""
    place = world.place
    rows = read_decisions(world.folder / "run").select(["model", "offset"]).to_pylist()
    own = sum(row["model"] == "sample/1" and row["offset"] is not None for row in rows)
    seen = monitor.look(Watched(place.run, place.fleet, place.registry), {}, 0, 2**62, daily_only=True)
    assert own < len(rows)
    assert len(seen.values["score:all"]) == own

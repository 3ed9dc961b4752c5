"""How the autopilot's trial ends: by a verdict, or by the shadow's, never against what was seen last."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from anomaly.experiments.compare import Comparison, Reading, Split
from anomaly.experiments.file import load
from anomaly.experiments.state import Entry, State, Taken, add_entry
from anomaly.fleet import Fleet
from anomaly.registry.store import Registry
from tests.training.killed_loop import FLEET
from training.loop import autopilot
from training.loop.file import LoopFile
from training.loop.machine import Facts
from training.loop.place import Place
from training.loop.rollout import write_experiment


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A loop with the experiment file of its first cycle."""
    found = Place(msgspec.convert(FLEET, Fleet), Registry(tmp_path / "models"), tmp_path / "run", LoopFile())
    write_experiment(found.run / "experiments", "loop-1-live", ("bus/1", "bus/2"), "live", found.file)
    return found


def reading(harm: float | None, limit: float, few: int = 1) -> Reading:
    """What was seen of a metric from which nothing can be concluded."""
    return Reading(
        metric="false_alarms", role="primary", method="fixed", alpha=0.05, limit=limit, harm=harm, low=None, high=None,
        log_e=None, log_needed=3.0, control_events=few, treatment_events=few, result="inconclusive",
    )  # fmt: skip


def looked(place: Place, *readings: Reading, reason: str = "1 events in an arm are too few") -> State:
    """The state of an experiment that says nothing, and its last look on the trail."""
    experiment = load(place.run / "experiments" / "loop-1-live.toml")
    split = Split(control=10, treatment=10, share=0.5, log_e=0.0, log_needed=7.0)
    last = Comparison(arms=[], readings=list(readings), split=split)
    entry = Entry(at=9, id=experiment.id, revision=1, act="inconclusive", reason=reason, evidence=last)
    add_entry(place.run / "experiments", entry)
    return State(
        id=experiment.id, revision=1, digest=experiment.digest(), status="running", experiment=experiment, models={},
        digests={}, steps=[Taken(share=1.0, at=0)], at=0, verdict="inconclusive", reason="of an earlier look",
    )  # fmt: skip


def ended(place: Place, state: State, paired: bool) -> tuple[str, str]:
    """The state that follows when all days are over, and why."""
    went = autopilot._after_live(place, state, Facts(paired=paired), place.file.max_days)
    assert went is not None
    return went.state, went.reason


def test_small_arms_go_by_the_shadow(place: Place) -> None:
    """Where the arms say nothing, a challenger whose shadow had passed is promoted, another one is not."""
    state = looked(place, reading(1.0, 3.0))
    assert ended(place, state, paired=True)[0] == "promote"
    assert ended(place, state, paired=False)[0] == "roll_back"
    assert autopilot._after_live(place, state, Facts(paired=True), place.file.max_days - 1) is None


def test_the_reason_is_that_of_the_last_look(place: Place) -> None:
    """Not what the state was first written for, but what was seen last."""
    assert "1 events in an arm are too few" in ended(place, looked(place, reading(None, 3.0)), paired=False)[1]


def test_what_seems_worse_is_not_promoted_on_the_shadows_word(place: Place) -> None:
    """The primary or a guardrail beyond what is allowed stands against it, although nobody is sure."""
    state = looked(place, reading(3.1, 3.0))
    said = "loop-1-live: false_alarms seems worse by 3.1, 3 allowed"
    assert ended(place, state, paired=True) == ("roll_back", said)
    guardrail = msgspec.structs.replace(
        reading(0.6, 0.5, few=5), role="guardrail", method="first_event", log_e=0.1, log_needed=3.7
    )
    state = looked(place, reading(1.0, 3.0), guardrail)
    assert ended(place, state, paired=True)[0] == "roll_back"


def test_the_files_that_the_loop_writes_are_good_ones(place: Place) -> None:
    """A shadow and a live arm, each read once, with a guardrail that needs no events of the champion."""
    folder = place.run / "experiments"
    write_experiment(folder, "loop-1-shadow", ("bus/1", "bus/2"), "shadow", place.file)
    for name, mode in (("loop-1-shadow", "shadow"), ("loop-1-live", "live")):
        experiment = load(folder / f"{name}.toml")
        assert (experiment.treatment.mode, experiment.primary.method) == (mode, "fixed")
        assert [one.method for one in experiment.guardrails] == ["sequence", "first_event"]
        assert (experiment.on_pass, experiment.on_fail) == ("hold", "rollback")

"""The controller: a good arm is promoted, a bad one rolled back, an equal one held, each by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from anomaly.errors import ConfigError
from anomaly.experiments.compare import Difference, compare
from anomaly.experiments.controller import Effects, Look, act, begin, decide, registry_effects, stop
from anomaly.experiments.file import Experiment
from anomaly.experiments.state import State, read_audit, read_state
from tests.experiments.plan import RAMP, TEXT, experiment, odd, ramped, twins, vehicles
from tests.registry.stock import stocked

DAY = 86_400
GOOD, BAD, EQUAL = ((1.0, 0.5), (0.8, 0.8)), ((0.5, 1.0), (0.8, 0.8)), None
BLIND = ((1.0, 0.5), (0.9, 0.2))


def pin(reference: str) -> str:
    """What the registry would answer."""
    return {"fleet@challenger": "fleet/2"}.get(reference, reference)


def look(days: float, truth: Any = EQUAL, count: int = 1_000) -> Look:
    """What is seen so many days after the start."""
    table = twins(count) if truth is None else vehicles(count, *truth)
    return Look(compare(experiment(), odd, table), int(days * DAY), DAY)


class Done:
    """Effects that write down what was asked of them, and die when told to."""

    def __init__(self, dies: bool = False) -> None:
        self.calls: list[tuple[str, str]] = []
        self._dies = dies

    @property
    def effects(self) -> Effects:
        """What the controller is given."""
        return Effects(lambda model, _: self._call("promote", model), lambda model, _: self._call("roll back", model))

    def _call(self, what: str, model: str) -> None:
        if self._dies:
            raise KeyboardInterrupt
        self.calls.append((what, model))


def run(folder: Path, plan: Experiment, *looks: Look) -> tuple[State, list[tuple[str, str]]]:
    """Begin, then act at each look."""
    done = Done()
    state = begin(folder, plan, 0, pin)
    for one in looks:
        state = act(folder, plan, one, done.effects)
    return state, done.calls


@pytest.mark.parametrize(
    ("truth", "status", "calls"),
    [
        (GOOD, "promoted", [("promote", "fleet/2")]),
        (BAD, "rolled_back", [("roll back", "fleet/2")]),
        (EQUAL, "running", []),
        (BLIND, "rolled_back", [("roll back", "fleet/2")]),
    ],
)
def test_the_verdict_is_acted_on(tmp_path: Path, truth: Any, status: str, calls: list[tuple[str, str]]) -> None:
    """Better: promoted; worse, or blind on a guardrail: rolled back; equal: held. Once, and never again."""
    state, done = run(tmp_path, experiment(), look(20, truth), look(21, truth))
    assert (state.status, done) == (status, calls)
    assert read_state(tmp_path, "colder") == state


@pytest.mark.parametrize(
    ("days", "count", "reason"),
    [(9.9, 1_000, "9.9 of 10 days"), (20, 90, "45 vehicles in the smaller arm, 50 needed")],
)
def test_nothing_is_promoted_before_the_time_and_the_vehicles_are_there(
    tmp_path: Path, days: float, count: int, reason: str
) -> None:
    """min_days, the label delay and min_vehicles are waited for."""
    state, done = run(tmp_path, experiment(), look(days, GOOD, count))
    assert (state.verdict, done) == ("inconclusive", [])
    assert reason in state.reason


def test_a_guardrail_rolls_back_at_once() -> None:
    """It does not wait for the days that a promotion needs."""
    state = State(id="c", revision=1, digest="", status="running", models={}, steps=[], at=0)
    assert decide(experiment(), state, look(0.5, BLIND)).result == "fail"


def test_few_events_conclude_nothing(tmp_path: Path) -> None:
    """No false alarm in either arm is not a proof that the treatment has fewer."""
    state, done = run(
        tmp_path, experiment(TEXT.replace("margin = 0.0", "margin = 5.0")), look(20, ((0, 0), (0.8, 0.8)))
    )
    assert (state.verdict, done) == ("inconclusive", [])
    assert "0 events are too few" in state.reason


def test_a_margin_lets_an_equal_arm_pass(tmp_path: Path) -> None:
    """An arm that is surely not worse by the margin passes."""
    plan = experiment(TEXT.replace("margin = 0.0", "margin = 15.0"))
    assert run(tmp_path, plan, look(20, EQUAL))[0].status == "promoted"


def test_an_experiment_that_took_too_long_says_so(tmp_path: Path) -> None:
    """It is held, and the reason tells a person that max_days are over."""
    assert run(tmp_path, experiment(), look(91))[0].reason.endswith("and max_days have passed")


def test_on_pass_hold_waits_for_a_person(tmp_path: Path) -> None:
    """The verdict is written, and nothing is done."""
    state, done = run(tmp_path, experiment(TEXT.replace('"promote"', '"hold"')), look(20, GOOD))
    assert (state.verdict, state.status, done) == ("pass", "running", [])


def test_the_ramp_goes_on_by_time_and_vehicles(tmp_path: Path) -> None:
    """A step is taken when the one before lasted; nothing is promoted on the way."""
    shares = []
    begin(tmp_path, ramped(), 0, pin)
    for one in (look(1, GOOD), look(3, GOOD, 8), look(4, GOOD), look(5, GOOD)):
        shares.append(act(tmp_path, ramped(), one, Done().effects).share)
    assert shares == [0.1, 0.1, 1.0, 1.0]


def test_a_crash_between_decision_and_effect_is_finished_by_the_next_call(tmp_path: Path) -> None:
    """The state says what was going to be done; it is done then, whatever the arms look like now."""
    begin(tmp_path, experiment(), 0, pin)
    with pytest.raises(KeyboardInterrupt):
        act(tmp_path, experiment(), look(20, GOOD), Done(dies=True).effects)
    assert read_state(tmp_path, "colder").status == "promoting"  # type: ignore[union-attr]
    done = Done()
    assert act(tmp_path, experiment(), look(21, BAD), done.effects).status == "promoted"
    assert done.calls == [("promote", "fleet/2")]


def test_models_are_pinned_when_it_begins(tmp_path: Path) -> None:
    """An alias that moves later changes nothing, and beginning again finds it begun."""
    first = begin(tmp_path, experiment(), 0, pin)
    assert first.models == {"old": "fleet/1", "new": "fleet/2"}
    assert begin(tmp_path, experiment(), 9, lambda _: "fleet/9") == first


def test_two_arms_of_one_model_are_refused(tmp_path: Path) -> None:
    """An experiment between a model and itself says nothing."""
    with pytest.raises(ConfigError, match="both arms are fleet/1"):
        begin(tmp_path, experiment(), 0, lambda _: "fleet/1")


def test_a_running_revision_may_not_change(tmp_path: Path) -> None:
    """An edited file is refused until it says that it is another revision; that begins anew."""
    begin(tmp_path, ramped(), 0, pin)
    edited = RAMP + TEXT.replace("min_days = 7", "min_days = 8")
    with pytest.raises(ConfigError, match="make it revision 2"):
        act(tmp_path, experiment(edited), look(1), Done().effects)
    assert begin(tmp_path, experiment("revision = 2\n" + edited), 50, pin).steps[0].at == 50


def test_every_act_is_on_the_audit_trail_with_its_evidence(tmp_path: Path) -> None:
    """What was done, when, why, and what was known."""
    run(tmp_path, experiment(), look(3, GOOD), look(20, GOOD))
    trail = read_audit(tmp_path, "colder")
    assert [entry.act for entry in trail] == [
        "began at 100% of the vehicles", "inconclusive: running at 100%", "pass: promoting at 100%", "promoted fleet/2",
    ]  # fmt: skip
    assert trail[-1].evidence == look(20, GOOD).comparison


def test_stopping_ends_it(tmp_path: Path) -> None:
    """A person ends an experiment; the controller leaves it alone after that."""
    begin(tmp_path, experiment(), 0, pin)
    stop(tmp_path, "colder", 3, "wrong season")
    done = Done()
    assert act(tmp_path, experiment(), look(20, GOOD), done.effects).status == "stopped"
    assert done.calls == []


def test_nothing_passes_before_the_last_step_of_the_ramp(tmp_path: Path) -> None:
    """However long the first step was, and however good it looks."""
    state, done = run(tmp_path, ramped(), look(20, GOOD))
    assert (state.verdict, state.reason, done) == ("inconclusive", "step 1 of 2 of the ramp", [])


def _looked(count: int, guardrail: Difference) -> Look:
    """A good primary, and this of the guardrail."""
    seen = look(20, GOOD, count)
    others = [each for each in seen.comparison.differences if each.metric != guardrail.metric]
    return seen._replace(comparison=msgspec.structs.replace(seen.comparison, differences=[*others, guardrail]))


@pytest.mark.parametrize(
    ("harm", "low", "events", "result"),
    [
        (0.3, 0.2, 9, "inconclusive"),
        (0.3, 0.2, 10, "fail"),
        (0.3, -0.1, 50, "inconclusive"),
        (0.05, -0.1, 50, "pass"),
        (None, None, 0, "inconclusive"),
    ],
)
def test_a_guardrail_fails_surely_or_stands_against_a_promotion(
    tmp_path: Path, harm: float | None, low: float | None, events: float, result: str
) -> None:
    """Surely harmed on enough events: fail. Seemingly harmed, or unknown: no promotion. Else: pass."""
    begin(tmp_path, experiment(), 0, pin)
    guardrail = Difference(metric="detected", harm=harm, low=low, high=harm, events=events)
    state = act(tmp_path, experiment(), _looked(1_000, guardrail), Done().effects)
    assert state.verdict == result


def test_the_registry_promotes_and_rolls_back_once(tmp_path: Path) -> None:
    """Called again after a crash it does nothing more; a model that is no champion only loses its alias."""
    registry = stocked(tmp_path, 2)
    registry.promote("bus", 1, "first")
    registry.set_alias("bus", "challenger", 2, "try")
    effects = registry_effects(registry)
    for _ in range(2):
        effects.roll_back("bus/2", "worse")
    assert registry.aliases("bus") == {"champion": 1}
    for _ in range(2):
        effects.promote("bus/2", "better")
    assert [change.number for change in registry.history("bus") if change.alias == "champion"] == [1, 2]
    for _ in range(2):
        effects.roll_back("bus/2", "worse after all")
    assert registry.aliases("bus") == {"champion": 1}

"""The controller: a good arm is promoted, a bad one rolled back, an equal one held, each by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from anomaly.errors import ConfigError
from anomaly.experiments.compare import Split, compare
from anomaly.experiments.controller import Effects, Pinned, act, begin, problems, registry_effects, stop
from anomaly.experiments.file import Experiment, Primary, Threshold
from anomaly.experiments.state import State, Taken, read_audit, read_state
from anomaly.experiments.verdict import Look, decide
from tests.experiments.plan import TEXT, changed, experiment, ramped, twins, vehicles
from tests.registry.stock import stocked

DAY = 86_400
GOOD, BAD, EQUAL = ((1.0, 0.5), (0.8, 0.8)), ((0.5, 1.0), (0.8, 0.8)), None
BLIND = ((1.0, 0.5), (0.9, 0.2))


def pin(reference: str) -> Pinned:
    """What the registry would answer."""
    name = {"fleet@challenger": "fleet/2"}.get(reference, reference)
    return Pinned(name, f"digest of {name}")


def look(days: float, truth: Any = EQUAL, count: int = 1_000) -> Look:
    """What is seen so many days after the start."""
    table = twins(count) if truth is None else vehicles(count, *truth)
    return Look(compare(experiment(), table), int(days * DAY), DAY)


def running(**fields: Any) -> State:
    """An experiment that began at 0."""
    plan = experiment()
    steps = [Taken(share=1.0, at=0)]
    state = State(
        id="colder", revision=1, digest=plan.digest(), status="running", experiment=plan, models={}, digests={},
        steps=steps, at=0,
    )  # fmt: skip
    return msgspec.structs.replace(state, **fields)


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
        state = act(folder, one, plan.id, done.effects)
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
    assert decide(experiment(), running(), look(0.5, BLIND)).result == "fail"


def test_few_events_conclude_nothing(tmp_path: Path) -> None:
    """No false alarm in either arm is not a proof that the treatment has fewer."""
    state, done = run(
        tmp_path, experiment(TEXT.replace("margin = 0.0", "margin = 5.0")), look(20, ((0, 0), (0.8, 0.8)))
    )
    assert (state.verdict, done) == ("inconclusive", [])
    assert "0 events in an arm are too few" in state.reason


def test_a_margin_lets_an_equal_arm_pass(tmp_path: Path) -> None:
    """An arm that is surely not worse by the margin passes."""
    plan = experiment(TEXT.replace("margin = 0.0", "margin = 20.0"))
    state, _ = run(tmp_path, plan, Look(compare(plan, twins(1_000)), 20 * DAY, DAY))
    assert state.status == "promoted"


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
        shares.append(act(tmp_path, one, "colder", Done().effects).share)
    assert shares == [0.1, 0.1, 1.0, 1.0]


def test_a_crash_between_decision_and_effect_is_finished_by_the_next_call(tmp_path: Path) -> None:
    """The state says what was going to be done; it is done then, whatever the arms look like now."""
    begin(tmp_path, experiment(), 0, pin)
    with pytest.raises(KeyboardInterrupt):
        act(tmp_path, look(20, GOOD), "colder", Done(dies=True).effects)
    assert read_state(tmp_path, "colder").status == "promoting"  # type: ignore[union-attr]
    done = Done()
    assert act(tmp_path, look(21, BAD), "colder", done.effects).status == "promoted"
    assert done.calls == [("promote", "fleet/2")]


def test_models_are_pinned_when_it_begins(tmp_path: Path) -> None:
    """An alias that moves later changes nothing, and beginning again finds it begun."""
    first = begin(tmp_path, experiment(), 0, pin)
    assert first.models == {"old": "fleet/1", "new": "fleet/2"}
    assert begin(tmp_path, experiment(), 9, lambda _: Pinned("fleet/9", "")) == first


def test_two_arms_of_one_model_are_refused(tmp_path: Path) -> None:
    """An experiment between a model and itself says nothing."""
    with pytest.raises(ConfigError, match="both arms are fleet/1"):
        begin(tmp_path, experiment(), 0, lambda _: Pinned("fleet/1", ""))


def test_a_changed_file_is_not_what_runs_and_holds_it(tmp_path: Path) -> None:
    """An edited file goes no further, its guardrails still roll it back; a new revision begins anew."""
    begin(tmp_path, experiment(), 0, pin)
    state = read_state(tmp_path, "colder")
    assert state is not None
    edited = experiment(TEXT.replace("min_days = 7", "min_days = 8"))
    frozen = problems(edited, state, pin)
    assert "make it revision 2" in frozen[0]
    done = Done()
    held = act(tmp_path, look(20, GOOD), "colder", done.effects, frozen)
    assert (held.status, held.experiment.min_days, done.calls) == ("running", 7, [])
    assert "make it revision 2" in held.reason
    assert begin(tmp_path, changed(revision=2), 50 * DAY, pin).steps[0].at == 50 * DAY
    assert act(tmp_path, look(71, BLIND), "colder", done.effects, frozen).status == "rolled_back"


def test_a_moved_alias_or_a_changed_model_holds_it(tmp_path: Path) -> None:
    """What runs stays what was pinned; the sentence says which alias, what it is now, and what to do."""
    state = begin(tmp_path, experiment(), 0, pin)
    assert problems(experiment(), state, pin) == []
    (moved,) = problems(experiment(), state, lambda name: Pinned("fleet/7", "x") if "@" in name else pin(name))
    assert "fleet@challenger is fleet/7 by now, arm new runs fleet/2; move the alias back" in moved
    (spoilt, _) = problems(experiment(), state, lambda name: pin(name)._replace(digest="x"))
    assert "fleet/1 of arm old is not the model that it was" in spoilt


def test_a_clock_that_goes_back_holds_it(tmp_path: Path) -> None:
    """Nothing is promoted on a look that is older than the last one."""
    done = Done()
    begin(tmp_path, experiment(), 0, pin)
    act(tmp_path, look(25), "colder", done.effects)
    state = act(tmp_path, look(20, GOOD), "colder", done.effects)
    assert (state.status, done.calls) == ("running", [])
    assert "5.0 days older than at the last look" in state.reason


def test_a_broken_split_holds_it(tmp_path: Path) -> None:
    """However good the treatment looks, nothing is concluded from arms that are not the promised ones."""
    begin(tmp_path, experiment(), 0, pin)
    seen = look(20, GOOD)
    split = Split(control=600, treatment=400, share=0.5, log_e=12.0, log_needed=6.9)
    broken = seen._replace(comparison=msgspec.structs.replace(seen.comparison, split=split))
    state = act(tmp_path, broken, "colder", Done().effects)
    assert state.verdict == "inconclusive"
    assert "not the promised split" in state.reason


def test_a_fixed_read_out_is_read_once(tmp_path: Path) -> None:
    """What the planned look said stays, however good a later look is."""
    plan = changed(primary=Primary(metric="false_alarms", method="fixed"))
    begin(tmp_path, plan, 0, pin)
    done = Done()
    for days, truth in ((20, EQUAL), (30, GOOD)):
        table = twins(1_000) if truth is None else vehicles(1_000, *truth)
        state = act(tmp_path, Look(compare(plan, table), days * DAY, DAY), "colder", done.effects)
    assert (state.verdict, state.read_at, done.calls) == ("inconclusive", 20 * DAY, [])


def test_a_threshold_is_rolled_back_without_touching_models(tmp_path: Path) -> None:
    """The model of a threshold's arm is the champion's: it must not lose its alias. It cannot be promoted either."""
    control, treatment = experiment().arms
    other = msgspec.structs.replace(treatment, model="fleet/1", threshold=Threshold(scale=0.5))
    plan = changed(arms=[control, other], on_pass="hold")
    assert run(tmp_path, plan, look(20, BAD)) == (read_state(tmp_path, "colder"), [])
    assert read_state(tmp_path, "colder").status == "rolled_back"  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="a treatment that is a model and no more"):
        begin(tmp_path / "none", changed(arms=[control, other]), 0, pin)


def test_every_act_is_on_the_audit_trail_with_its_evidence(tmp_path: Path) -> None:
    """What was done, when, why, and what was known."""
    run(tmp_path, experiment(), look(3, GOOD), look(20, GOOD))
    trail = read_audit(tmp_path, "colder")
    assert [entry.act for entry in trail] == [
        "began at 100% of the vehicles", "inconclusive: running at 100%", "pass: promoting at 100%", "promoted fleet/2",
    ]  # fmt: skip
    assert trail[-2].evidence == look(20, GOOD).comparison


def test_stopping_ends_it(tmp_path: Path) -> None:
    """A person ends an experiment; the controller leaves it alone after that."""
    begin(tmp_path, experiment(), 0, pin)
    stop(tmp_path, "colder", 3, "wrong season")
    done = Done()
    assert act(tmp_path, look(20, GOOD), "colder", done.effects).status == "stopped"
    assert done.calls == []


def test_nothing_passes_before_the_last_step_of_the_ramp(tmp_path: Path) -> None:
    """However long the first step was, and however good it looks."""
    state, done = run(tmp_path, ramped(), look(20, GOOD))
    assert (state.verdict, state.reason, done) == ("inconclusive", "step 1 of 2 of the ramp", [])


@pytest.mark.parametrize(
    ("harm", "result", "verdict"),
    [
        (0.3, "fail", "fail"),
        (0.3, "inconclusive", "inconclusive"),
        (0.05, "inconclusive", "pass"),
        (None, "inconclusive", "inconclusive"),
    ],
)
def test_a_guardrail_fails_surely_or_stands_against_a_promotion(
    tmp_path: Path, harm: float | None, result: Any, verdict: str
) -> None:
    """Surely harmed: fail. Seemingly harmed, or unknown: no promotion. Else: pass."""
    begin(tmp_path, experiment(), 0, pin)
    seen = look(20, GOOD)
    primary, guardrail = seen.comparison.readings
    other = msgspec.structs.replace(guardrail, harm=harm, result=result)
    looked = seen._replace(comparison=msgspec.structs.replace(seen.comparison, readings=[primary, other]))
    assert act(tmp_path, looked, "colder", Done().effects).verdict == verdict


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

"""What the engine promises about events: restarts of some signals, undoing, maintenance, confirmed faults."""

from __future__ import annotations

import pytest

from anomaly.engine import layout
from anomaly.engine.events import Action, Event
from anomaly.engine.outcome import Status
from tests.engine import world
from tests.engine.world import NORMAL, readings

WORN = (8.0, 10.0, -5.0, 0.0)


@pytest.mark.parametrize("between", [3, 12])
@pytest.mark.parametrize("signals", [(), (1,)])
@pytest.mark.parametrize("together", [True, False])
def test_an_undone_restart_has_the_old_baseline_back_to_the_bit(
    between: int, signals: tuple[int, ...], together: bool
) -> None:
    """Of all signals or some, in one batch or later, whether or not the baseline was learned again in between."""
    baselines = world.Baselines()
    engine = world.engine(kept=baselines)
    engine.decide(readings([NORMAL] * 20))
    before = world.record(engine).baseline
    events = [Event("e", "v0", 200, signals=signals), Event("u", "v0", 200 + 10 * between, Action.UNDO, (), "e")]
    batch = readings([(1.0, 14.0, -5.0, 0.0)] * (between + 1), start=200)
    engine.add_events(events if together else events[:1])
    baselines.keep(engine.decide(batch.rows(0, between)).applied)
    if not together:
        engine.add_events(events[1:])
    assert world.record(engine).baseline != before
    assert engine.decide(batch.rows(between, between + 1)).status.tolist() == [Status.SCORED]
    assert world.record(engine).baseline == before


def test_only_the_last_restart_can_be_undone() -> None:
    """What was normal before an earlier one is not what is normal after the later one is undone."""
    engine = world.engine()
    engine.decide(readings([NORMAL] * 20))
    undo = Event("u", "v0", 250, Action.UNDO, (), "first")
    engine.add_events([Event("first", "v0", 200), Event("second", "v0", 220), undo])
    assert engine.decide(readings([NORMAL] * 6, start=200)).status[-1] == Status.BURN_IN


def test_an_undo_leaves_signals_alone_that_its_restart_was_not_about() -> None:
    """A signal that learns its baseline again goes on with that while the restart of another one is undone."""
    engine = world.engine()
    engine.decide(readings([NORMAL] * 20))
    undo = Event("u", "v0", 240, Action.UNDO, (), "b")
    engine.add_events([Event("a", "v0", 200, signals=(0,)), Event("b", "v0", 220, signals=(1,)), undo])
    engine.decide(readings([(3.0, 10.0, -5.0, 0.0)] * 12, start=200))
    assert world.baseline(engine)[0] == pytest.approx(0.1 + 0.9 * 2.9, abs=0.3)


def test_only_the_signals_of_an_event_learn_their_baseline_again() -> None:
    """A step of one signal at its service is no alarm; the others keep theirs to the bit, and all are judged."""
    told, untold = world.engine(), world.engine()
    for engine in (told, untold):
        engine.decide(readings([NORMAL] * 20))
    before = world.baseline(told)
    told.add_events([Event("e", "v0", 200, signals=(1,))])
    stepped = readings([(0.0, 14.0, -5.0, 0.0)] * 30, start=200)
    outcome = told.decide(stepped)
    assert set(outcome.status.tolist()) == {Status.SCORED}
    assert not outcome.decisions.alarm.any()
    assert untold.decide(stepped).decisions.alarm.any()
    after = world.baseline(told)
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1] == pytest.approx(0.8 * 2.0, abs=0.2)


def test_a_signal_that_learns_again_is_no_isolated_jump() -> None:
    """Where its normal is now is not known, so that it cannot be far from there."""
    engine = world.engine(made=world.frame(step=(5.0, 5.0, 5.0)))
    engine.decide(readings([NORMAL] * 20))
    engine.add_events([Event("e", "v0", 200, signals=(0,))])
    outcome = engine.decide(readings([WORN] * 20, start=200))
    assert outcome.masked["step"] == 0
    assert world.baseline(engine)[0] == pytest.approx(0.1 + 0.9 * 7.9, abs=0.3)


def test_in_maintenance_there_is_no_alarm_and_nothing_is_learned() -> None:
    """Baseline, evidence and threshold are afterwards the same to the bit; the same readings alarm without it."""
    engine, untold = world.engine(), world.engine()
    for each in (engine, untold):
        each.decide(readings([NORMAL] * 20))
    before = world.record(engine)
    engine.add_events([Event("m", "v0", 200, Action.BEGIN), Event("m", "v0", 300, Action.END)])
    wild = readings([WORN, (99.0, 10.0, -5.0, 0.0)] * 5, start=200)
    outcome = engine.decide(wild)
    assert not outcome.decisions.kind.any()
    assert not len(outcome.episodes.row)
    assert world.record(engine) == before
    assert untold.decide(wild).decisions.alarm.any()
    assert engine.decide(readings([WORN] * 5, start=300)).decisions.alarm.any()


def test_nothing_is_learned_while_a_fault_is_confirmed() -> None:
    """The threshold rests until the answer, and so does the baseline of a signal that learns it again."""
    engine = world.engine()
    engine.decide(readings([NORMAL] * 20))
    engine.add_events([Event("s", "v0", 200, signals=(2,)), Event("c", "v0", 220, Action.CONFIRM, until=220)])
    engine.decide(readings([NORMAL] * 2, start=200))
    before = world.record(engine)
    engine.decide(readings([NORMAL] * 20, start=220))
    during = world.record(engine)
    assert (during.baseline, during.quantile) == (before.baseline, before.quantile)
    engine.add_events([Event("a", "v0", 420, Action.ANSWER)])
    engine.decide(readings([NORMAL] * 20, start=420))
    after = world.record(engine)
    assert after.baseline != before.baseline
    assert after.quantile != before.quantile


def test_a_fault_that_is_told_of_after_its_repair_stops_nothing() -> None:
    """The vehicle learns its new normal and is watched again, as if the label had come in time."""
    for until, learned in ((199, True), (201, False)):
        engine = world.engine()
        engine.decide(readings([NORMAL] * 20))
        engine.add_events([Event("repair", "v0", 200), Event("c", "v0", 210, Action.CONFIRM, until=until)])
        engine.decide(readings([NORMAL] * 30, start=200))
        assert bool(engine.decide(readings([WORN] * 10, start=500)).decisions.alarm.any()) is learned


def test_a_restart_that_comes_too_late_ends_neither_maintenance_nor_a_confirmed_fault() -> None:
    """One that a later restart has superseded does nothing at all."""
    engine = world.engine()
    engine.decide(readings([NORMAL] * 20))
    engine.add_events(
        [Event("e", "v0", 200), Event("m", "v0", 290, Action.BEGIN), Event("c", "v0", 290, Action.CONFIRM, until=290)]
    )
    engine.decide(readings([NORMAL] * 10, start=200))
    engine.add_events([Event("old", "v0", 150)])
    before = world.record(engine)
    outcome = engine.decide(readings([WORN] * 10, start=300))
    assert not outcome.decisions.kind.any()
    assert world.record(engine) == before


def test_a_restart_ends_maintenance_and_a_confirmed_fault() -> None:
    """What a repair leaves is watched, and learned, whatever was said before it and never taken back."""
    for said in (Event("m", "v0", 150, Action.BEGIN), Event("c", "v0", 150, Action.CONFIRM, until=150)):
        engine = world.engine()
        engine.decide(readings([NORMAL] * 15))
        engine.add_events([said, Event("repair", "v0", 200)])
        outcome = engine.decide(readings([NORMAL] * 30, start=150))
        assert (outcome.status[-1], world.baseline(engine)[0] != 0.0) == (Status.SCORED, True)
        assert engine.decide(readings([WORN] * 10, start=450)).decisions.alarm.any()


def test_a_signal_without_a_baseline_learns_one_after_its_restart_is_undone() -> None:
    """It was never heard before the restart; the others have theirs back, and it learns by itself."""
    engine = world.engine()
    deaf = (0.0, 10.0, float("nan"), 0.0)
    engine.add_events([Event("e", "v0", 200), Event("u", "v0", 230, Action.UNDO, (), "e")])
    engine.decide(readings([deaf] * 20))
    outcome = engine.decide(readings([(0.0, 10.0, -3.0, 0.0)] * 40, start=200))
    assert set(outcome.status[3:].tolist()) == {Status.SCORED}
    assert world.baseline(engine)[2] == pytest.approx(-0.1 + 0.7 * 2.1, abs=0.2)
    assert not outcome.decisions.alarm.any()


def test_what_was_learned_again_is_back_when_a_later_restart_is_undone() -> None:
    """A baseline that a signal learned by itself is as good as one of the burn-in; no vehicle learns for ever."""
    engine = world.engine()
    events = [Event("a", "v0", 200, signals=(1,)), Event("b", "v0", 400, signals=(1,))]
    engine.add_events([*events, Event("u", "v0", 420, Action.UNDO, (), "b")])
    engine.decide(readings([NORMAL] * 20))
    engine.decide(readings([(0.0, 14.0, -5.0, 0.0)] * 20, start=200))
    learned, state = world.baseline(engine), engine._state
    assert state.arrays.u1[state.slot("v0"), layout.FLAGS] & layout.PARTIAL == 0
    engine.decide(readings([(0.0, 12.0, -5.0, 0.0)] * 3, start=400))
    assert world.baseline(engine) == learned


def test_no_fault_ends_the_alarm_that_it_is_about_and_nothing_else() -> None:
    """What is normal moves by the evidence at once, is kept for an undo, and not where the alarm began later."""
    for until, moved in ((150, False), (10_000, True)):
        engine = world.engine()
        engine.decide(readings([NORMAL] * 20))
        assert engine.decide(readings([WORN] * 10, start=200)).decisions.alarm[-1]
        before = world.record(engine)
        engine.add_events([Event("n", "v0", 300, Action.DISMISS, until=until)])
        outcome = engine.decide(readings([WORN], start=300))
        assert bool(outcome.decisions.alarm[0]) is not moved
        assert (world.record(engine).baseline != before.baseline) is moved
        assert [bool(kept) for kept in outcome.applied.kept] == [moved]


def test_no_fault_of_a_vehicle_without_an_alarm_changes_nothing() -> None:
    """An inspection of a healthy vehicle leaves what is normal, and its evidence, as they were."""
    told, untold = world.engine(), world.engine()
    told.add_events([Event("n", "v0", 200, Action.DISMISS, until=10_000)])
    for engine in (told, untold):
        engine.decide(readings([NORMAL] * 25))
    assert world.record(told) == world.record(untold)


def test_an_undone_no_fault_holds_the_vehicle_against_its_old_normal() -> None:
    """The alarm is back with the evidence."""
    baselines = world.Baselines()
    engine = world.engine(kept=baselines)
    dismissal = Event("n", "v0", 300, Action.DISMISS, until=10_000)
    engine.add_events([dismissal, Event("u", "v0", 400, Action.UNDO, (), "n")])
    engine.decide(readings([NORMAL] * 20))
    engine.decide(readings([WORN] * 10, start=200))
    before = world.record(engine)
    baselines.keep(engine.decide(readings([WORN] * 10, start=300)).applied)
    engine.decide(readings([WORN], start=400))
    assert world.record(engine).baseline == before.baseline

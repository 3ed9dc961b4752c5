"""What the second pass promises: thresholds that rest, abrupt faults, lasting shifts."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.engine.events import Action, Event
from anomaly.engine.outcome import Change, Kind
from tests.engine import world
from tests.engine.world import NORMAL, readings

WORN = (6.0, 10.0, -5.0, 0.0)
SHIFTING = f"{world.FLEET}lasting_after = 5\n"


def test_the_threshold_rests_while_an_episode_is_open() -> None:
    """Of readings without alarm nothing is learned either, before the episode is over."""
    engine = world.engine(text=f"{world.FLEET}lasting_after = 0\n".replace("gap = 2", "gap = 30"))
    outcome = engine.decide(readings([NORMAL] * 20 + [WORN] * 5))
    assert outcome.decisions.alarm[-1]
    before = world.record(engine).quantile
    calm = engine.decide(readings([NORMAL] * 25, start=250)).decisions
    assert not calm.alarm[-10:].any()
    assert world.record(engine).quantile == before
    engine.decide(readings([NORMAL] * 30, start=500))
    assert world.record(engine).quantile != before


def test_an_abrupt_fault_is_found_within_two_readings_with_its_own_score_and_threshold() -> None:
    """Long before the slow evidence has it; without such evidence nothing is found."""
    found = []
    for abrupt in (True, False):
        frame = world.checked(abrupt)
        engine = world.engine(world.checked_arm(frame, k=100.0), text=world.CHECKED, made=frame)
        found.append(engine.decide(readings([NORMAL] * 20 + [WORN] * 2)))
    decisions = found[0].decisions
    assert (decisions.kind[-1], bool(decisions.alarm[-1])) == (Kind.ABRUPT, True)
    assert not decisions.kind[:20].any()
    assert decisions.threshold[-1] == 9.0
    assert decisions.score[-1] == decisions.level[-1] * np.float32(9.0) > 9.0
    assert Kind.ABRUPT in found[0].episodes.kind
    assert not found[1].decisions.kind.any()


def test_an_alarm_that_lasts_ends_as_the_new_normal() -> None:
    """Its episode ends, one alert opens at the same reading, the baseline moves, and later readings are calm."""
    engine = world.engine(text=SHIFTING)
    engine.decide(readings([NORMAL] * 20))
    before = world.baseline(engine)
    outcome = engine.decide(readings([WORN] * 80, start=200))
    episodes, decisions = outcome.episodes, outcome.decisions
    lasting = episodes.kind == Kind.LASTING_SHIFT
    assert episodes.change[lasting].tolist()[0] == Change.OPEN
    assert set(episodes.change[lasting].tolist()[1:]) == {Change.UPDATE}
    ended = episodes.row[(episodes.kind == Kind.FAULT) & (episodes.change == Change.CLOSED)]
    assert set(episodes.row[lasting].tolist()) <= set(ended.tolist())
    assert (decisions.kinds[episodes.row[lasting]] & (1 << Kind.LASTING_SHIFT)).all()
    assert not decisions.alarm[-40:].any()
    assert world.baseline(engine)[0] > before[0] + 4.0


def test_a_lasting_shift_stays_open_until_it_is_answered() -> None:
    """A further shift updates the same alert; a label closes it, with its start and the time of the answer."""
    engine = world.engine(text=SHIFTING)
    first = engine.decide(readings([NORMAL] * 20 + [WORN] * 80)).episodes
    start = first.start[first.kind == Kind.LASTING_SHIFT][0]
    again = engine.decide(readings([(6.0, 22.0, -5.0, 0.0)] * 80, start=1_000)).episodes
    more = again.kind == Kind.LASTING_SHIFT
    assert set(zip(again.change[more].tolist(), again.start[more].tolist(), strict=True)) == {(Change.UPDATE, start)}
    engine.add_events([Event("n", "v0", 1_800, Action.ANSWER)])
    closed = engine.decide(readings([(6.0, 22.0, -5.0, 0.0)] * 9, start=1_800)).episodes
    assert closed.kind.tolist() == [Kind.LASTING_SHIFT]
    assert (closed.change[0], closed.start[0], closed.end[0]) == (Change.CLOSED, start, 1_800)


def test_a_confirmed_fault_is_no_new_normal() -> None:
    """However long it lasts, its alarm goes on and its baseline stays."""
    engine = world.engine(text=SHIFTING)
    engine.decide(readings([NORMAL] * 20))
    before = world.record(engine).baseline
    engine.add_events([Event("c", "v0", 200, Action.CONFIRM)])
    outcome = engine.decide(readings([WORN] * 80, start=200))
    assert outcome.decisions.alarm[5:].all()
    assert world.record(engine).baseline == before


def test_an_alarm_that_came_to_nothing_raises_the_vehicles_threshold_until_a_fault_is_confirmed() -> None:
    """A step for each that ends by itself, five at most, and none for a lasting shift; a fault that is confirmed takes
    all back, also where it is told of after the repair."""
    engine, steps = world.engine(text=f"{world.FLEET}lasting_after = 60\n"), []
    engine.decide(readings([NORMAL] * 20))
    for place, rows in enumerate([[WORN] * 9 + [NORMAL] * 91] * 6 + [[WORN] * 100]):
        outcome = engine.decide(readings(rows, start=1_000 * (place + 1)))
        closed = outcome.episodes.row[
            (outcome.episodes.kind == Kind.FAULT) & (outcome.episodes.change == Change.CLOSED)
        ]
        line = outcome.decisions.threshold
        steps += [line[row + 1] / line[row] for row in closed.tolist()]
    assert len(steps) == 7
    assert steps == pytest.approx([1.2] * 5 + [1.0] * 2, abs=0.03)
    view = engine.vehicle("v0")
    assert view is not None
    assert view.unconfirmed == 5
    late = Event("c", "v0", 8_050, Action.CONFIRM, until=7_500)
    engine.add_events([Event("s", "v0", 8_000, signals=(2,)), late])
    line = engine.decide(readings([NORMAL] * 9, start=8_000)).decisions.threshold
    assert line[4] > 2 * line[5]
    back = engine.vehicle("v0")
    assert back is not None
    assert back.unconfirmed == 0

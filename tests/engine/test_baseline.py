"""What the engine promises about a vehicle's own baseline: how it is judged at birth, and when it is not learned."""

from __future__ import annotations

import numpy as np

from anomaly.engine.events import Event
from anomaly.engine.outcome import Kind
from tests.engine import world
from tests.engine.world import NORMAL, readings

ILL = (4.0, 16.0, -5.0, 0.0)


def test_a_vehicle_born_ill_is_found_from_its_tenth_reading_on_and_a_healthy_one_is_not() -> None:
    """Before its burn-in is over, by its own mean so far; the alarm names the signals that are off."""
    frame = world.checked(burn_in=15, cohort=None, period=0)
    found = {}
    for name, row in (("ill", ILL), ("healthy", NORMAL)):
        engine = world.engine(world.checked_arm(frame), text=world.CHECKED, made=frame)
        found[name] = engine.decide(readings([row] * 15, vehicle=name))
    decisions, share = found["ill"].decisions, found["ill"].evidence.share
    assert decisions.row[decisions.kind == Kind.BORN_ILL].tolist() == list(range(9, 15))
    assert decisions.alarm[9:].all()
    assert (decisions.level[9:] > 1.0).all()
    np.testing.assert_allclose(share.sum(axis=1), 1.0, rtol=1e-5)
    assert (share[:, 2] < 0.1).all()
    assert not found["healthy"].decisions.kind.any()


def test_a_birth_is_judged_once() -> None:
    """What a service left is the vehicle's new normal, however unlike the fleet it is: that is no second birth."""
    frame = world.checked(burn_in=15)
    engine = world.engine(world.checked_arm(frame), text=world.CHECKED, made=frame)
    engine.add_events([Event("e", "v0", 200)])
    decisions = engine.decide(readings([NORMAL] * 20 + [ILL] * 20)).decisions
    assert (decisions.warm[20:34] < 1.0).all()
    assert not decisions.kind.any()


def test_a_vehicle_that_sends_less_is_judged_by_what_it_sent() -> None:
    """A signal that is never there says nothing about a birth."""
    frame = world.checked(burn_in=15)
    engine = world.engine(world.checked_arm(frame), text=world.CHECKED, made=frame)
    decisions = engine.decide(readings([(np.nan, 10.0, -5.0, 0.0)] * 15)).decisions
    assert not decisions.kind.any()


def test_no_baseline_is_learned_while_an_episode_is_open() -> None:
    """A signal that is to learn its baseline again waits until the fault of another one is over."""
    engine = world.engine(text=f"{world.FLEET}lasting_after = 0\n")
    engine.decide(readings([NORMAL] * 20 + [(8.0, 10.0, -5.0, 0.0)] * 10))
    engine.add_events([Event("e", "v0", 300, signals=(2,))])
    engine.decide(readings([(8.0, 10.0, -5.0, 0.0)], start=300))
    before = world.record(engine)
    outcome = engine.decide(readings([(8.0, 10.0, -5.0, 0.0)] * 20, start=310))
    during = world.record(engine)
    assert outcome.decisions.alarm.all()
    assert (during.baseline, during.quantile) == (before.baseline, before.quantile)
    engine.decide(readings([NORMAL] * 40, start=510))
    after = world.record(engine)
    assert after.baseline != before.baseline
    assert after.quantile != before.quantile

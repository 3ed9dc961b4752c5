"""What the engine promises about silence: a vehicle that stops sending is told of by its own rhythm."""

from __future__ import annotations

from anomaly.engine.engine import Engine
from anomaly.engine.outcome import Change
from tests.engine import world
from tests.engine.world import NORMAL, readings


def watching() -> Engine:
    """An engine that tells a vehicle after 5 of its rhythms; the fleet's is 40 seconds."""
    frame = world.checked(cohort=None, period=0)
    return world.engine(world.checked_arm(frame), text=world.CHECKED, made=frame)


def test_a_vehicle_that_sent_once_has_the_rhythm_of_the_fleet() -> None:
    """It is silent from 5 times 40 seconds on, seen by the time of others."""
    engine = watching()
    engine.decide(readings([NORMAL], vehicle="once"))
    silences = engine.decide(readings([NORMAL] * 40, start=5, vehicle="often")).silences
    assert (silences.vehicle, silences.start.tolist(), silences.change.tolist()) == (["once"], [200], [Change.OPEN])


def test_a_vehicle_that_sends_often_is_silent_sooner() -> None:
    """A thousand readings a second apart make its rhythm shorter than that of the fleet."""
    engine = watching()
    engine.decide(readings([NORMAL] * 1_000, step=1, vehicle="quick"))
    silences = engine.decide(readings([NORMAL] * 40, start=1_000, vehicle="other")).silences
    assert silences.vehicle == ["quick"]
    assert 999 < silences.start[0] < 1_199

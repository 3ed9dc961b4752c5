"""What the quality gate promises about single signals: those that jump alone, and those that stop."""

from __future__ import annotations

import numpy as np

from anomaly.engine.outcome import Kind
from tests.engine import world
from tests.engine.world import NORMAL, readings

FRAME = world.frame(step=(5.0, 5.0, 5.0))


def test_a_regime_that_training_has_not_seen_is_counted_and_judged_by_a_wider_threshold() -> None:
    """Farther from its regime than any reading of training: half as much again is needed for an alarm."""
    made = world.frame(reach=(0.6, 0.6), cohort=None, period=0)
    decided = {}
    for load in (0.2, 0.4):
        engine = world.engine(made=made)
        decided[load] = engine.decide(readings([(*NORMAL[:3], load)] * 20))
    near, far = decided[0.2], decided[0.4]
    assert (near.masked["unseen_regime"], far.masked["unseen_regime"]) == (0, 20)
    assert (far.decisions.threshold[:6] == np.float32(1.5) * near.decisions.threshold[:6]).all()
    assert (far.decisions.score == near.decisions.score).all()


def test_what_a_regime_signal_explains_is_no_evidence() -> None:
    """Away from the middle of its regime a signal is expected elsewhere: there it is usual, and where it was is not."""
    made = world.frame(slope=(((4.0, 0.0, 0.0),), ((0.0, 0.0, 0.0),)), cohort=None, period=0)
    engine = world.engine(made=made)
    engine.decide(readings([NORMAL] * 20))
    assert not engine.decide(readings([(2.0, 10.0, -5.0, 0.25)] * 20, start=200)).decisions.alarm.any()
    told = engine.decide(readings([(0.0, 10.0, -5.0, 0.25)] * 20, start=400))
    assert told.decisions.alarm.any()
    assert abs(told.evidence.expected[0, 0] - 2.0) < 0.1


JUMPED = (8.0, 10.0, -5.0, 0.0)


def test_a_jump_of_one_signal_alone_is_left_out_and_its_sensors_fault_if_it_goes_on() -> None:
    """It is masked, counted, named from the second reading on, and leaves what a gap would have left."""
    engine, gap = world.engine(made=FRAME), world.engine(made=FRAME)
    jumped = engine.decide(readings([NORMAL] * 20 + [JUMPED] * 2))
    gap.decide(readings([NORMAL] * 20 + [(np.nan, 10.0, -5.0, 0.0)] * 2))
    assert jumped.masked["step"] == 2
    assert jumped.decisions.kind[-2:].tolist() == [Kind.NONE, Kind.SENSOR]
    assert not jumped.decisions.alarm.any()
    np.testing.assert_array_equal(jumped.evidence.share, [[1, 0, 0]])
    assert world.record(engine).evidence == world.record(gap).evidence


def test_a_sensor_that_shakes_stays_at_fault_until_it_is_back() -> None:
    """Halfway back is not back: else a noisy sensor would leave its smaller errors as evidence of a fault."""
    engine = world.engine(made=FRAME)
    shaking = engine.decide(readings([NORMAL] * 20 + [JUMPED, (4.0, 10.0, -5.0, 0.0)] * 3))
    assert (shaking.decisions.kind[21:] == Kind.SENSOR).all()
    assert not engine.decide(readings([NORMAL] * 5, start=400)).decisions.kind.any()


def test_a_signal_that_stays_away_for_long_is_believed_in_the_end() -> None:
    """No fault of the vehicle is hidden by its first step for longer than `silent_after` readings."""
    engine = world.engine(made=FRAME)
    outcome = engine.decide(readings([NORMAL] * 20 + [JUMPED] * 20))
    assert outcome.masked["step"] == 6
    assert outcome.decisions.kind[-1] == Kind.FAULT


def test_a_signal_alone_that_drifts_is_the_vehicles_own() -> None:
    """However far it gets: a tyre that leaks moves no other signal."""
    engine = world.engine(made=FRAME)
    drift = [(2.3 * step, 10.0, -5.0, 0.0) for step in range(6)]
    outcome = engine.decide(readings([NORMAL] * 20 + drift))
    assert outcome.masked["step"] == 0
    assert outcome.decisions.kind[-1] == Kind.FAULT


def test_an_outlier_of_a_signal_that_has_gathered_evidence_does_not_hide_it() -> None:
    """What has begun to wear goes on as the vehicle's own, however far one of its readings is off."""
    engine = world.engine(made=FRAME)
    worn = [(1.8, 10.0, -5.0, 0.0)] * 20
    outcome = engine.decide(readings([NORMAL] * 20 + worn + [(9.0, 10.0, -5.0, 0.0)] * 3))
    assert outcome.masked["step"] == 0


def test_what_a_stuck_sensor_left_before_it_was_known_is_no_evidence() -> None:
    """The values that made it known as stuck were no more the vehicle's than the next ones."""
    batch = readings([NORMAL] * 30)
    batch.values[20:, 2] = -1.0
    stuck = world.engine().decide(batch)
    assert stuck.masked["stuck"] == 7
    assert stuck.decisions.alarm[22]
    assert not stuck.decisions.alarm[23:].any()


def test_a_jump_of_two_signals_is_the_vehicles_own() -> None:
    """Nothing is masked, and the evidence has it."""
    engine = world.engine(made=FRAME)
    outcome = engine.decide(readings([NORMAL] * 20 + [(8.0, 24.0, -5.0, 0.0)] * 3))
    assert outcome.masked["step"] == 0
    assert outcome.decisions.alarm[-1]
    assert outcome.decisions.kind[-1] == Kind.FAULT


def test_a_signal_that_stops_is_a_dropout_after_silent_after_readings_and_not_before() -> None:
    """Five gaps in a row are gaps, the sixth is a sensor's fault, until it speaks again."""
    rows = [NORMAL] * 20 + [(np.nan, 10.0, -5.0, 0.0)] * 9 + [NORMAL] * 3
    outcome = world.engine().decide(readings(rows))
    sensor = outcome.decisions.row[outcome.decisions.kind == Kind.SENSOR].tolist()
    assert sensor == list(range(25, 29))
    assert outcome.masked["dropout"] == 4
    assert outcome.masked["missing"] == 5


def test_a_signal_that_was_never_there_does_not_drop_out() -> None:
    """Some vehicles have no such sensor."""
    outcome = world.engine().decide(readings([(np.nan, 10.0, -5.0, 0.0)] * 40))
    assert outcome.masked["dropout"] == 0
    assert not outcome.decisions.kind.any()

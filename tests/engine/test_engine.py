"""What the engine promises about single vehicles: quality, baseline, threshold, episodes, restarts, cohorts."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from anomaly.engine import layout
from anomaly.engine.events import Event
from anomaly.engine.layout import Observed, Readings
from anomaly.engine.outcome import Change, Kind, Status
from anomaly.errors import ConfigError, StateError
from anomaly.telemetry.batch import Batch
from anomaly.telemetry.text import Coded
from tests.engine import world
from tests.engine.world import NORMAL, readings


def test_the_first_reading_of_an_unknown_vehicle_has_a_score_and_the_fleets_threshold() -> None:
    """A vehicle never seen before is scored at once, against the fleet's prior and threshold, and cannot alarm."""
    decisions = world.engine(world.arm(k=3.0)).decide(readings([(12.0, 10.0, -5.0, 0.0)])).decisions
    assert decisions.score[0] > 3.0
    assert (decisions.threshold[0], bool(decisions.alarm[0])) == (3.0, False)


def test_a_shift_after_burn_in_is_one_episode_with_start_peak_and_end() -> None:
    """A lasting deviation opens one fault episode, which closes after `gap` quiet readings."""
    rows = [NORMAL] * 20 + [(8.0, 10.0, -5.0, 0.0)] * 5 + [NORMAL] * 40
    episodes = world.engine().decide(readings(rows)).episodes
    fault = episodes.kind == Kind.FAULT
    opened, closed = (episodes.row[fault & (episodes.change == change)] for change in (Change.OPEN, Change.CLOSED))
    assert len(opened) == len(closed) == 1
    assert 20 <= opened[0] < 25 < closed[0]


def test_a_fault_says_since_when_the_score_was_above_what_is_usual() -> None:
    """The onset is the first reading of the last stretch above the vehicle's usual score, the start the alarm."""
    rows = [NORMAL] * 20 + [(1.5, 10.0, -5.0, 0.0)] * 6 + [NORMAL] * 30 + [(1.5, 10.0, -5.0, 0.0)] * 6
    batch = readings([*rows, *[(8.0, 10.0, -5.0, 0.0)] * 3])
    outcome = world.engine(world.arm(k=6.0)).decide(batch)
    episodes, score = outcome.episodes, outcome.decisions.score
    (opened,) = np.flatnonzero((episodes.kind == Kind.FAULT) & (episodes.change == Change.OPEN))
    onset, start = (int(np.flatnonzero(batch.ts == ts)[0]) for ts in (episodes.onset[opened], episodes.start[opened]))
    assert 56 <= onset < start
    assert score[onset - 1] < score[onset:start].min()


def test_missing_and_infinite_values_never_reach_state() -> None:
    """NaN and infinity in every signal leave state finite and the next decision as good as ever."""
    bad = (np.nan, np.inf, -np.inf, np.nan)
    engine = world.engine()
    outcome = engine.decide(readings([NORMAL] * 10 + [bad] * 3 + [NORMAL] * 10))
    assert np.isfinite(outcome.decisions.score).all()
    assert outcome.masked["missing"] == 9


def test_a_value_out_of_range_is_a_sensor_fault_and_no_alarm() -> None:
    """What is physically impossible is masked, named and never counted as an alarm of the vehicle."""
    outcome = world.engine().decide(readings([NORMAL] * 20 + [(80.0, 10.0, -5.0, 0.0)] * 30))
    late = outcome.decisions.row >= 20
    assert set(outcome.decisions.kind[late]) == {Kind.SENSOR}
    assert not outcome.decisions.alarm.any()
    assert outcome.masked["range"] == 30
    np.testing.assert_array_equal(outcome.evidence.share[0], [1, 0, 0])


STAYING = f"{world.FLEET}lasting_after = 0\n"
"""No alarm becomes the new normal."""


def test_a_stuck_signal_and_an_impossible_step_are_masked() -> None:
    """Equal values beyond `stuck_after` and a jump beyond `max_step` are counted by their reason."""
    batch = readings([NORMAL] * 12 + [(0.0, 60.0, -5.0, 0.0)])
    batch.values[5:12, 2] = -5.0
    assert world.engine().decide(batch).masked | {"missing": 0} == {
        "missing": 0,
        "range": 0,
        "step": 1,
        "stuck": 4,
        "dropout": 0,
        "unseen_regime": 0,
    }


def test_a_refused_value_is_not_what_a_gap_repeats() -> None:
    """Where a gap repeats the previous value, one that is physically impossible is passed over."""
    text = world.FLEET.replace("max_step = 30.0", "max = 90.0")
    scores = []
    for wild in (10.0, 1e6):
        rows = [NORMAL] * 20 + [(0.0, wild, -5.0, 0.0)] + [(0.0, np.nan, -5.0, 0.0)] * 5
        scores.append(world.engine(text=text).decide(readings(rows)).decisions.score[-1])
    assert abs(scores[0] - scores[1]) < 0.5


def test_duplicates_and_late_readings_change_nothing() -> None:
    """A reading sent twice, or older than the last one, gets no decision and leaves the state as it was."""
    engine = world.engine()
    engine.decide(readings([NORMAL] * 10))
    before = engine.digest()
    outcome = engine.decide(readings([NORMAL] * 3, start=70))
    assert list(outcome.status) == [Status.LATE, Status.LATE, Status.DUPLICATE]
    assert engine.digest() == before


def test_one_wrong_clock_is_refused_and_two_are_believed() -> None:
    """A time far ahead of everybody waits for a second vehicle that shows it too."""
    engine = world.engine()
    engine.decide(readings([NORMAL] * 3))
    engine.decide(readings([NORMAL] * 3, vehicle="v1"))
    assert list(engine.decide(readings([NORMAL], start=10**8)).status) == [Status.AHEAD]
    assert list(engine.decide(readings([NORMAL], start=10**8, vehicle="v1")).status) == [Status.BURN_IN]


def test_a_restart_takes_effect_before_the_first_reading_at_or_after_its_time() -> None:
    """The baseline starts again exactly there, so that a step at a service is no alarm; without the event it is."""
    rows = [NORMAL] * 20 + [(4.0, 10.0, -5.0, 0.0)] * 30
    told, untold = world.engine(), world.engine()
    told.add_events([Event("e1", "v0", 195)])
    outcome = told.decide(readings(rows))
    assert (list(outcome.applied.row), [event.id for event in outcome.applied.events]) == ([20], ["e1"])
    assert not outcome.decisions.alarm.any()
    assert untold.decide(readings(rows)).decisions.alarm.any()


def test_a_late_restart_is_counted_and_acts_on_arrival_unless_it_is_superseded() -> None:
    """An event after its reading acts at the next one; one older than a restart that acted does nothing."""
    engine = world.engine()
    engine.decide(readings([NORMAL] * 10))
    assert engine.add_events([Event("late", "v0", 50), Event("later", "v0", 200)]) == 1
    assert engine.decide(readings([NORMAL], start=100)).applied.events[0].id == "late"
    engine.decide(readings([NORMAL], start=200))
    engine.add_events([Event("old", "v0", 150)])
    engine.decide(readings([NORMAL] * 3, start=210))
    view = engine.vehicle("v0")
    assert view is not None
    assert view.readings == 4


def test_a_bounded_threshold_cannot_absorb_a_slow_fault_and_a_free_one_does() -> None:
    """A ramp that the unbounded threshold follows into silence keeps alarming under the default bound."""
    ramp = [(2.0 + 0.0025 * t, 10.0, -5.0, 0.0) for t in range(2_000)]
    batch = readings([NORMAL] * 20 + ramp)
    shares = []
    for adaptation in (0.2, 1.0):
        decisions = world.engine(world.arm(adaptation, k=10.0, q_fleet=8.0), text=STAYING).decide(batch).decisions
        shares.append(decisions.alarm[-500:].mean())
    assert shares[0] == 1.0
    assert shares[1] < 0.1


def test_a_common_shift_of_a_cohort_is_taken_off() -> None:
    """What all vehicles of a type do for days is context and alarms far less than the same in one vehicle alone."""
    rng = np.random.default_rng(0)
    hours = 24 * 20
    rows = np.array(NORMAL) + rng.normal(0, 1, (hours * 30, 4)) * [1, 2, 1, 0]
    shifted = np.arange(hours * 30) // 30 >= hours // 2
    alarms = []
    for who in (np.ones(30, bool), np.arange(30) == 0):
        values = rows + np.outer(shifted & np.tile(who, hours), [3.0, 0, 0, 0])
        batch = Batch.of(
            [f"v{n}" for n in range(30)] * hours,
            np.repeat(np.arange(hours) * 10, 30),
            values.astype(np.float32),
            {"type": ["t0"] * 30 * hours, "region": [None] * 30 * hours},
            np.arange(30 * hours),
        )
        decisions = world.engine(world.arm(k=8.0), text=STAYING).decide(batch).decisions
        first = np.array([batch.vehicles[row] == "v0" for row in decisions.row])
        alarms.append(decisions.alarm[first & (decisions.row > 30 * hours * 0.75)].mean())
    assert alarms[0] < 0.2 < 0.8 < alarms[1]


def test_a_vehicle_stays_in_its_cohort_where_a_reading_does_not_say() -> None:
    """A reading without the fields of the cohort changes nothing about whose cohort the vehicle counts in."""
    batch = readings([NORMAL] * 4)
    types = Coded.of(["t0", None, "t1", None])
    batch = replace(batch, context={**batch.context, "type": types})
    engine = world.engine()
    engine.decide(batch)
    state = engine._state
    slot = state.slot("v0")
    assert (list(state.cohorts.keys), state.arrays.i4[slot, layout.COHORT]) == (["t0", "t1"], 1)


def test_a_delta_holds_the_cohorts_that_changed() -> None:
    """What a checkpoint writes grows with what happened, not with the number of cohorts; it restores all of them."""
    engine, again = world.engine(), world.engine()
    for number in range(30):
        batch = readings([NORMAL] * 12, vehicle=f"v{number}")
        context = {**batch.context, "type": Coded.of([f"t{number}"] * 12)}
        engine.decide(replace(batch, context=context))
    again.apply(world.whole(engine))
    list(engine.delta())
    engine.decide(readings([NORMAL], start=1_000))
    deltas = list(engine.delta())
    moving = readings([NORMAL] * 3, start=1_100)
    engine.decide(replace(moving, context={**moving.context, "type": Coded.of(["t0", "t7", "t0"])}))
    for delta in [*deltas, *engine.delta()]:
        again.apply([delta])
        assert len(delta) < 100_000
    assert again.digest() == engine.digest()


def test_one_fast_clock_does_not_empty_its_cohort() -> None:
    """A vehicle that is periods ahead, though it came first, closes no period: the 90 % point of all vehicles does."""
    engine = world.engine()
    ticks = 60  # a period
    for minute in range(200):
        names = [f"v{n}" for n in range(30)]
        rows = np.tile(np.float32(NORMAL), (30, 1)) + np.random.default_rng(minute).normal(0, 1, (30, 4)) * [1, 2, 1, 0]
        ts = np.full(30, minute * 10)
        ts[0] += 5 * ticks
        context = {"type": ["t0"] * 30, "region": [None] * 30}
        engine.decide(Batch.of(names, ts, rows.astype(np.float32), context, np.arange(30)))
    cohorts = engine._state.cohorts.arrays
    assert cohorts.calendar[layout.OPEN] == (199 * 10 - 20) // ticks
    assert cohorts.calendar[layout.LATE] == 0
    assert cohorts.histogram[0, :, 0].sum() > 1_000


def test_two_arms_score_with_their_own_models_and_thresholds() -> None:
    """Each vehicle's decision names its arm, and its threshold is that arm's."""
    engine = world.engine(world.arm(k=3.0), world.arm(digest="m2", k=5.0))
    decisions = [engine.decide(readings([NORMAL], vehicle=name)).decisions for name in ("v0", "v1")]
    assert sorted(float(made.threshold[0]) for made in decisions) == [3.0, 5.0]
    assert sorted(int(made.arm[0]) for made in decisions) == [0, 1]


def test_a_rollback_finds_the_old_models_thresholds_again() -> None:
    """What a model learned of a vehicle's threshold is still there after another model was in use."""
    engine = world.engine(world.arm())
    engine.decide(readings([(1.0, 10.0, -5.0, 0.0)] * 100))
    learned = engine.vehicle("v0").quantiles["m1"]
    engine.use([world.arm(digest="m2")], lambda _vehicle: 0)
    engine.decide(readings([NORMAL] * 50, start=2_000))
    engine.use([world.arm()], lambda _vehicle: 0)
    assert learned != 2.0
    assert engine.vehicle("v0").quantiles == {"m1": learned, "m2": engine.vehicle("v0").quantiles["m2"]}


def test_signals_of_another_fleet_are_refused() -> None:
    """A frame whose signals are not those of the fleet file cannot be used with it."""
    other = world.FLEET.replace("signals.c", "signals.d")
    with pytest.raises(ConfigError, match="train a model for this fleet file"):
        world.engine(text=other)


def test_state_of_another_frame_or_no_state_at_all_is_refused() -> None:
    """Bytes that are not this frame's state are refused with what to do."""
    engine = world.engine()
    with pytest.raises(StateError, match="no state"):
        engine.apply([b"rubbish"])
    other = world.Engine(world.fleet(), world.frame(prior=(0.0, 0.0, 0.0)))
    with pytest.raises(StateError, match="--fresh-state"):
        engine.apply(world.whole(other))


def test_a_lone_clock_far_ahead_is_believed_at_its_tenth_reading_in_a_row() -> None:
    """Nine readings a year ahead are refused; a reading of somebody else in between starts the count again."""
    year, engine = 31_536_000, world.engine()
    engine.decide(readings([NORMAL] * 2, vehicle="v1"))
    engine.decide(readings([NORMAL] * 2))
    first = engine.decide(readings([NORMAL] * 5, start=year)).status.tolist()
    engine.decide(readings([NORMAL], start=100, vehicle="v1"))
    later = engine.decide(readings([NORMAL] * 10, start=year + 1_000)).status.tolist()
    assert first == [Status.AHEAD] * 5
    assert later == [Status.AHEAD] * 9 + [Status.BURN_IN]


def test_a_restart_before_the_epoch_counts() -> None:
    """Times may be negative: an event at such a time starts the baseline again, as any other does."""
    engine = world.engine()
    engine.decide(readings([NORMAL] * 8, start=-1_000))
    engine.add_events([Event("e", "v0", -500)])
    assert engine.decide(readings([NORMAL], start=-400)).status.tolist() == [Status.BURN_IN]


def test_a_vehicle_that_takes_anothers_slot_inherits_nothing() -> None:
    """After the first vehicle was let go, a new one in its slot decides as in an engine that never saw another."""
    used, new = world.engine(), world.engine()
    used.decide(readings([(40.0, 10.0, -5.0, 0.0)] * 30))
    used.evict(1)
    later = [readings([NORMAL] * 9, start=1_000, vehicle="v1") for _ in range(2)]
    found = [engine.decide(batch).decisions for engine, batch in zip((used, new), later, strict=True)]
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))
    assert used.vehicle("v1") == new.vehicle("v1")


@pytest.mark.parametrize(("version", "said"), [(3, "cannot be read any more.*--fresh-state"), (99, "update it")])
def test_state_of_another_version_is_refused_by_its_version(version: int, said: str) -> None:
    """Whatever else it holds: fields that this program does not know are no reason to call it broken."""
    engine = world.engine()
    engine.add_events([Event("e", "v0", 10**6)])
    engine.decide(readings([NORMAL] * 3))
    piece = next(piece for piece in map(msgspec.msgpack.decode, engine.delta()) if piece["rest"])
    piece["version"] = version
    piece["rest"]["waiting"] = [one[:-1] for one in piece["rest"]["waiting"]]
    with pytest.raises(StateError, match=said):
        world.engine().apply([msgspec.msgpack.encode(piece)])


def test_little_of_a_batch_is_made_twice_where_many_vehicles_shift_for_good() -> None:
    """Forty lasting shifts in one batch, each of which changes later features: the first pass goes over six times as
    many readings as there are at most; it was eighteen times where each part was tried up to the end of the batch."""
    vehicles = 40
    who, step = np.arange(200 * vehicles) % vehicles, np.arange(200 * vehicles) // vehicles
    values = np.random.default_rng(0).normal(0, 0.1, (len(who), 4)) * [1, 1, 1, 0] + [0, 10, -5, 0]
    values[:, 0] += np.where(step > 40 + 3 * who, 8.0, 0.0)
    names, context = [f"v{n}" for n in who], {"type": ["t0"] * len(who), "region": [None] * len(who)}
    engine, passed = world.engine(made=world.frame(cohort=None, period=0)), []
    first_pass = engine._observe

    def counted(readings: Readings, rows: tuple[int, int], applied: int, observed: Observed) -> tuple[int, int]:
        passed.append(rows[1] - rows[0])
        return first_pass(readings, rows, applied, observed)

    engine._observe = counted
    outcome = engine.decide(Batch.of(names, 10 * step, values.astype(np.float32), context, np.arange(len(who))))
    assert (outcome.episodes.kind == Kind.LASTING_SHIFT).sum() == vehicles
    assert sum(passed) < 6 * len(who)

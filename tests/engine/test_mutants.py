"""What would otherwise go unseen if a single line of the kernels' state update were missing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from anomaly.engine.engine import Engine
from anomaly.engine.layout import Observed, Readings
from anomaly.engine.outcome import Kind, Outcome
from anomaly.telemetry.batch import Batch
from tests.engine import world
from tests.engine.reference import Reference

COUNT = 1_800


def readings(rows: list[tuple[float, ...]]) -> Batch:
    """Readings of one vehicle, one every ten seconds."""
    count = len(rows)
    context = {"type": ["t0"] * count, "region": [None] * count}
    return Batch.of(
        ["v0"] * count, np.arange(count) * 10, np.array(rows, np.float32), context, np.arange(count, dtype=np.int64)
    )


def test_the_first_value_of_a_vehicle_is_no_step() -> None:
    """A vehicle that was never seen has no last value, however far its first one is from 0."""
    outcome = world.engine().decide(readings([(0.0, 45.0, -5.0, 0.0)]))
    assert outcome.masked["step"] == 0


def test_a_gap_at_the_first_reading_has_nothing_to_repeat() -> None:
    """Where a gap repeats the last value, one in the first reading of a vehicle is a gap: nothing is learned of it."""
    engine = world.engine()
    engine.decide(readings([(0.0, np.nan, -5.0, 0.0)]))
    view = engine.vehicle("v0")
    assert view is not None
    assert view.evidence[1] == 0.0


def troubled(seed: int, calm: bool) -> Batch:
    """The stream of `world` with cohorts that move, vehicles that change or do not tell theirs, long silences, faults
    that last and abrupt ones, vehicles born ill, signals that jump alone or stop."""
    batch = world.stream(seed, COUNT)
    rng = np.random.default_rng(seed)
    who = np.array([int(name[1:]) for name in batch.vehicles])
    who = np.where((who == 0) & (rng.random(COUNT) < 0.5), rng.integers(0, 5, COUNT), who)
    second, part = np.arange(COUNT) > COUNT // 2, np.arange(COUNT) * 12 // COUNT
    values = batch.values.copy()
    values[(who % 2 == 1) & second, 1] += 3.0
    values[(who == 0) & (np.arange(COUNT) % 40 < 12), 0] = np.nan
    values[(who == 2) & second & (np.arange(COUNT) % 3 == 0), 3] = np.nan
    values[(who <= 2) & np.isin(part, [3, 4, 8]), 0] += 6.0
    values[(who == 0) & (part == 6), 1] -= 14.0
    values[who == 3] += np.float32([4.0, 7.0, 3.0, 0.0])
    values[(who == 4) & (part >= 9), 0] = np.nan
    values[rng.random(COUNT) < 0.02, :3] += np.float32([5.0, 20.0, 0.0])
    kinds = who % 2 ^ ((who == 3) & (np.arange(COUNT) % 200 < 100))
    told = rng.random(COUNT) < 0.95
    context = {
        "type": [f"t{kind}" if tells else None for kind, tells in zip(kinds, told, strict=True)],
        "region": [None] * COUNT,
    }
    ts = batch.ts % 10**9 if calm else batch.ts
    return Batch.of([f"v{number}" for number in who], ts, values, context, np.arange(COUNT, dtype=np.int64))


@pytest.mark.parametrize(
    ("calm", "features", "abrupt"),
    [(True, "wide", True), (False, "evidence", True), (False, "wide", False), (True, "evidence", False)],
)
def test_the_kernels_do_what_the_rules_say(calm: bool, features: str, abrupt: bool) -> None:
    """Statuses, features, thresholds, alarms, episodes and events are those of a second writing of the rules."""
    frame, events = world.checked(abrupt, features=features, rhythm=0.0), world.happenings(3, 4 * COUNT)
    batch, fleet, arm = troubled(3, calm), world.fleet(world.CHECKED), world.checked_arm(frame)
    told = Reference(fleet, frame, arm.model, events)
    told.run(batch)
    engine = world.engine(arm, text=world.CHECKED, made=frame)
    engine.add_events(events)
    outcome, observed = decided(engine, batch)
    assert observed.status.tolist() == told.statuses
    rows = np.flatnonzero(observed.status <= 1)
    assert [(row, event.id) for row, event, _ in zip(*outcome.applied, strict=True)] == told.applied
    np.testing.assert_allclose(observed.features[rows], told.features, atol=2e-3)
    agree(outcome, told)
    everything = {Kind.SENSOR, Kind.BORN_ILL, Kind.FAULT, Kind.LASTING_SHIFT} | ({Kind.ABRUPT} if abrupt else set())
    assert everything == set(outcome.episodes.kind.tolist())


@pytest.mark.parametrize("periods", [2, 3, 5, 8])
def test_after_a_silence_of_the_whole_fleet_no_shift_of_another_time_is_taken_off(periods: int) -> None:
    """Where nobody sent for some periods, the first readings are given what was known before, as the rules say."""
    rng, frame, arm = np.random.default_rng(1), world.frame(), world.arm()
    ts = np.repeat([*range(0, 900, 5), *range(900 + 60 * periods, 1_500 + 60 * periods, 5)], 10)
    common = 2 * np.sin(ts / 150.0)[:, None] * [1, 2, 0, 0]
    values = [0, 10, -5, 0] + common + rng.normal(0, 0.3, (len(ts), 4)) * [1, 1, 1, 0]
    context = {"type": ["t0"] * len(ts), "region": [None] * len(ts)}
    names = [f"v{number % 10}" for number in range(len(ts))]
    batch = Batch.of(names, ts.astype(np.int64), values.astype(np.float32), context, np.arange(len(ts)))
    told = Reference(world.fleet(), frame, arm.model, [])
    told.run(batch)
    _, observed = decided(world.engine(arm, made=frame), batch)
    assert observed.status.tolist() == told.statuses
    np.testing.assert_allclose(observed.features[observed.status <= 1], told.features, atol=5e-3)


def decided(engine: Engine, batch: Batch) -> tuple[Outcome, Observed]:
    """What comes of a batch, and the features that it was decided by."""
    seen: list[Observed] = []
    made_of = engine._outcome

    def outcome(readings: Readings, made: NamedTuple, *rest: object) -> Outcome:
        seen.extend(part for part in made if isinstance(part, Observed))
        return made_of(readings, made, *rest)

    engine._outcome = outcome
    return engine.decide(batch), seen[0]


def agree(outcome: Outcome, told: Reference) -> None:
    """Decisions and changes of episodes are the same; numbers to 1e-3."""
    decisions, episodes = outcome.decisions, outcome.episodes
    kinds = [sum(1 << kind for kind in said.kinds) for said in told.decided]
    assert decisions.kinds.tolist() == kinds
    whole = list(zip(decisions.kind, decisions.episode_start, decisions.episode_count, strict=True))
    assert whole == [(said.kind, said.start, said.nth) for said in told.decided]
    np.testing.assert_allclose(decisions.score, [said.score for said in told.decided], atol=1e-2)
    np.testing.assert_allclose(decisions.threshold, [said.threshold for said in told.decided], rtol=1e-4)
    found = [column.tolist() for column in (episodes.row, episodes.kind, episodes.change, episodes.start)]
    found += [column.tolist() for column in (episodes.end, episodes.peak, episodes.alarms, episodes.onset)]
    said = [(*times, alarms, onset) for *times, _, alarms, onset in told.changes]
    assert list(zip(*found, strict=True)) == said
    np.testing.assert_allclose(episodes.level, [change[6] for change in told.changes], rtol=1e-3)
